/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A daemon for one client that does what a test orders: it can hang up in the
 * middle of any request, forget its client, deny, and lie. Its segments are
 * real ones, of a pool of its own (th_reserve()).
 *
 * It is the controller of a play (tests/support/pools.h); the client is the
 * worker and gives the orders over their link.
 */
#ifndef TESTS_SUPPORT_PRETEND_DAEMON_H
#define TESTS_SUPPORT_PRETEND_DAEMON_H

#include "tests/support/pools.h"

enum th_order {
	TH_ORDER_RECALL = 1, /* @a segments in @b ms: how many came */
	TH_ORDER_POLL,       /* the live bytes that the client says; @a: those
			      * that were passed */
	TH_ORDER_LOSE,       /* says that the GPU is lost */
	TH_ORDER_CUT,        /* the @a-th message from now on, enum th_cut @b */
	TH_ORDER_HANG_UP,    /* now */
	TH_ORDER_END,        /* hangs up, and listens no more */
	TH_ORDER_FORGET,     /* the client; and hangs up */
	TH_ORDER_DENY,       /* the next @b requests but ATTACH, with @a */
	TH_ORDER_DENY_ATTACH, /* the next @b times, with @a */
	TH_ORDER_LIE,         /* the next @b times: enum th_lie @a */
	TH_ORDER_LEASED,      /* how many segments are leased by its books */
	TH_ORDER_PARKED,      /* and parked */
	TH_ORDER_REQUESTS,    /* how many of enum ip_type @a have come */
	TH_ORDER_CHUNK,       /* a GRANT or HELD has at most @a segments */
	TH_ORDER_SCATTER,     /* neighbours are never granted */
	TH_ORDER_LIMIT,       /* what WELCOME says, @a segments */
	TH_ORDER_UNPARK,      /* the books take what is parked for leased */
	TH_ORDER_PARK,        /* and the other way round */
	TH_ORDER_STRANGE,     /* says what does not belong there as an event */
	TH_ORDER_OUTSIDE,     /* how many segments are room outside */
	TH_ORDER_OPENED,      /* how many the client has opened */
	/* Of model @a, TH_ALPHA or TH_BETA. */
	TH_ORDER_WORD,      /* the client's, enum ip_use_word */
	TH_ORDER_TAKE_BACK, /* IDLE to NONE: whether it was */
	TH_ORDER_PLACE,     /* lies from now on from segment @b on */
	TH_ORDER_LAND,      /* @b tensors have landed, as the GPU sees it */
	TH_ORDER_SAY_LAND,  /* the same, as the page says */
	TH_ORDER_FAIL,      /* a load has failed */
	TH_ORDER_REMOVE,    /* another one has its name, number and hash */
	TH_ORDER_YIELD,     /* with flags @b: what was answered at once */
	TH_ORDER_YIELDED,   /* waits for what is answered later: which model */
	TH_ORDER_FILL,      /* segment @a with the word @b */
};

struct th_order_message {
	uint32_t order;
	uint32_t a;
	uint32_t b;
};

/* What stands in this daemon's tickets. */
struct th_pretend_ticket {
	uint32_t first; /* segment */
	uint32_t count;
	uint32_t offset;
	uint32_t bytes;
};
#define TH_TICKET_AT 16 /* in the ticket's bytes */

/* The models: each takes TH_MODEL_SEGMENTS of the parameter region, and has
 * TH_MODEL_TENSORS tensors, "t0" and so on. */
#define TH_ALPHA 3u
#define TH_BETA 7u
#define TH_MODEL_SEGMENTS 2u
#define TH_MODEL_TENSORS 4u

enum th_cut {
	TH_CUT_UNREAD,  /* as if the request had never come */
	TH_CUT_UNSAID,  /* done, and not answered */
	TH_CUT_HALFWAY, /* after the first message of the answer */
};

enum th_lie {
	TH_LIE_NONE,
	TH_LIE_PARAMETER,      /* GRANT of a segment of the parameter region */
	TH_LIE_FILES,          /* GRANT of plain files */
	TH_LIE_TOO_MANY,       /* GRANT of more than was asked for */
	TH_LIE_PARKED,         /* GRANT as parked of what is not */
	TH_LIE_TWICE,          /* GRANT of what is leased already */
	TH_LIE_TOO_FEW,        /* GRANT of less than was asked for */
	TH_LIE_OTHER_POOL,     /* WELCOME to another pool */
	TH_LIE_HELD_NONE,      /* HELD without what is in use */
	TH_LIE_HELD_PARAMETER, /* HELD of the parameter region */
	TH_LIE_OTHER_GPU,      /* WELCOME to a pool on another GPU */
	TH_LIE_NEED_FILES,     /* PART of plain files */
	TH_LIE_OPEN_FILES,     /* OPENED of plain files */
	TH_LIE_PLACE_FILES,    /* PLACE of plain files */
	TH_LIE_PLACE_MANY,     /* PLACE of more than the model takes */
	TH_LIE_PLACE_FEW,      /* PLACE of less */
	TH_LIE_ADDRESS,        /* MODEL in the lower half */
	TH_LIE_MANIFEST,       /* MODEL with another count of tensors */
	TH_LIE_LANDED,         /* BOARD with an empty page */
};

/* Plays; @client is the worker, and finds the daemon by POOLSWITCH_SOCKET. */
void th_pretend_play(th_role *client);

/* In the client. */
uint64_t th_order(const struct th_part *me, enum th_order order, uint32_t a,
		  uint32_t b);
/* Waits for the daemon, then attaches. */
struct ps_pool *th_pretend_attach(const struct th_part *me);

/* A ticket for memory of somebody whom nobody else knows. */
struct ps_ticket th_pretend_ticket(uint32_t first, uint32_t count,
				   uint32_t offset, uint32_t bytes);

/* By the daemon's books, segments. */
void th_assert_books(const struct th_part *me, uint64_t leased,
		     uint64_t parked);
/* The service thread parks what was not used for a second. */
void th_await_parked(const struct th_part *me, uint64_t segments);

#endif /* TESTS_SUPPORT_PRETEND_DAEMON_H */
