# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""python3 -m poolswitch: the program poolswitch."""

from poolswitch._programs import main

if __name__ == "__main__":
    main()
