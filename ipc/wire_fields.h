/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the messages are made of: fields that are read or written by the same
 * list, and checks that name field, value and limit. For the files of the wire
 * format only; everybody else includes ipc/wire.h.
 *
 * Invariant: nothing is read or written outside the cursor's bytes. A payload
 * that ends too early moves the place beyond its end, where ip_message_decode()
 * finds it.
 */
#ifndef IPC_WIRE_FIELDS_H
#define IPC_WIRE_FIELDS_H

#include "ipc/wire.h"

/* A place in a message that is read or written. */
struct ip_cursor {
	uint8_t *bytes;
	size_t size;
	size_t at; /* beyond size: the message is too short */
	bool writing;
	uint16_t type;
	uint16_t minor;
	enum ps_status
		status; /* of the lengths that the fields themselves say */
};

void ip_field_u16(struct ip_cursor *c, uint16_t *value);
void ip_field_u32(struct ip_cursor *c, uint32_t *value);
void ip_field_u64(struct ip_cursor *c, uint64_t *value);
void ip_field_bytes(struct ip_cursor *c, void *data, size_t bytes);
/* A length of 4 bytes and as much text; the last field of its message. */
void ip_field_text(struct ip_cursor *c, char text[IP_TEXT_MAX + 1]);
/* A count of 4 bytes and as many numbers. */
void ip_field_numbers(struct ip_cursor *c, uint32_t *count,
		      uint32_t numbers[IP_LIST_MAX]);

/* PS_PROTOCOL, with the message, the field, its value and the limits. */
enum ps_status ip_check_range(uint16_t type, const char *field, uint64_t value,
			      uint64_t low, uint64_t high);
/* A field of @size bytes: printable text, then zeros, one at least. */
enum ps_status ip_check_padded(uint16_t type, const char *field,
			       const char *text, size_t size);
/* A run of 1 to @most segments. */
enum ps_status ip_check_run(uint16_t type, uint64_t first, uint64_t count,
			    uint64_t most);
/* Each below @end, none twice. @marks: bits that do not count. */
enum ps_status ip_check_numbers(uint16_t type, const uint32_t *numbers,
				uint32_t count, uint32_t marks, uint32_t end);
/* Bits; a newer peer may know more of them. */
enum ps_status ip_check_flags(const struct ip_message *msg, uint32_t flags,
			      uint32_t known);
/* Of a request: they are counted from 1. */
enum ps_status ip_check_seq(const struct ip_message *msg, uint32_t seq);
/* The status and the text of a refusal or a denial. */
enum ps_status ip_check_reason(const struct ip_message *msg, uint32_t status,
			       const char text[IP_TEXT_MAX + 1]);
bool ip_is_printable(char c);

/* ipc/wire_daemon.c: the types from IP_ATTACH on. */
void ip_daemon_fields(struct ip_cursor *c, struct ip_message *msg);
enum ps_status ip_daemon_check(const struct ip_message *msg,
			       unsigned int fd_count);

/* ipc/wire_tickets.c: ISSUE, TICKET, OPEN, OPENED. */
void ip_ticket_fields(struct ip_cursor *c, struct ip_message *msg);
enum ps_status ip_ticket_check(const struct ip_message *msg,
			       unsigned int fd_count);

/* ipc/wire_models.c: all of minor 4. */
void ip_model_fields(struct ip_cursor *c, struct ip_message *msg);
enum ps_status ip_model_check(const struct ip_message *msg,
			      unsigned int fd_count);

/* ipc/offer.c */
enum ps_status ip_welcome_check(const struct ip_welcome *welcome);

#endif /* IPC_WIRE_FIELDS_H */
