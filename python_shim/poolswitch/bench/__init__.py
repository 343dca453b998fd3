# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of models under PyTorch: python3 -m poolswitch.bench."""
