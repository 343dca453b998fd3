/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Metrics over HTTP, from a process of its own: whatever a scraper does, it
 * does it to this one and not to the daemon. Each request asks the daemon
 * anew; between requests nothing runs.
 */
#include "cli/metrics.h"

#include "cli/exit.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32
#define CONNECTION_SECONDS 10
#define ADDRESS_BYTES 64

/* ---- where ---- */

static bool parse_port(const char *text, in_port_t *port_out)
{
	unsigned long port;
	char *end;

	errno = 0;
	port = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || port > UINT16_MAX)
		return false;
	*port_out = htons((uint16_t)port);
	return true;
}

static bool is_loopback4(const struct in_addr *address)
{
	return ntohl(address->s_addr) >> 24 == IN_LOOPBACKNET;
}

static bool refuse(const char *text, char *why, size_t room)
{
	snprintf(why, room,
		 "--listen %s: only the loopback's addresses are allowed "
		 "(127.0.0.1:PORT, [::1]:PORT): nothing of poolswitch listens "
		 "on a network; put a proxy before it if you must",
		 text);
	return false;
}

/* The part before the last colon, without brackets. */
static bool split(const char *text, char host[ADDRESS_BYTES],
		  const char **port_out)
{
	const char *colon = strrchr(text, ':');
	const char *from = text;
	size_t length;

	if (!colon)
		return false;
	length = (size_t)(colon - text);
	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		from++;
		length -= 2;
	}
	if (length == 0 || length >= ADDRESS_BYTES)
		return false;
	memcpy(host, from, length);
	host[length] = '\0';
	*port_out = colon + 1;
	return true;
}

bool cl_listen_parse(const char *text, struct sockaddr_storage *address_out,
		     char *why, size_t room)
{
	struct sockaddr_in four = { .sin_family = AF_INET };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	char host[ADDRESS_BYTES];
	const char *port;

	memset(address_out, 0, sizeof(*address_out));
	if (!split(text, host, &port) || !parse_port(port, &four.sin_port)) {
		snprintf(why, room,
			 "--listen %s: ADDRESS:PORT is wanted, such as "
			 "127.0.0.1:9464",
			 text);
		return false;
	}
	six.sin6_port = four.sin_port;
	if (strcmp(host, "localhost") == 0)
		strcpy(host, "127.0.0.1");
	if (inet_pton(AF_INET, host, &four.sin_addr) == 1 &&
	    is_loopback4(&four.sin_addr))
		memcpy(address_out, &four, sizeof(four));
	else if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1 &&
		 IN6_IS_ADDR_LOOPBACK(&six.sin6_addr))
		memcpy(address_out, &six, sizeof(six));
	else
		return refuse(text, why, room);
	return true;
}

/* ---- the HTTP server ---- */

#define HTTP_LIBRARY "libmicrohttpd.so.12"

/* Its functions, by name. */
#define HTTP_CALLS(X)                                                          \
	X(MHD_start_daemon)                                                    \
	X(MHD_stop_daemon)                                                     \
	X(MHD_create_response_from_buffer)                                     \
	X(MHD_add_response_header)                                             \
	X(MHD_queue_response)                                                  \
	X(MHD_destroy_response)

#define HTTP_CALL(name) __typeof__(name) *name;
static struct {
	HTTP_CALLS(HTTP_CALL)
} http;
#undef HTTP_CALL

static bool load_call(void *library, const char *name, void *place)
{
	void *found = dlsym(library, name);

	memcpy(place, &found, sizeof(found));
	return found != NULL;
}

/* It stays loaded until the program ends. */
static bool load_http(void)
{
	void *library = dlopen(HTTP_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	bool is_whole = library != NULL;

#define HTTP_CALL(name)                                                        \
	is_whole = is_whole && load_call(library, #name, &http.name);
	HTTP_CALLS(HTTP_CALL)
#undef HTTP_CALL
	return is_whole;
}

/* ---- answering ---- */

/* The metrics as a text; free() it. NULL: no memory. */
static char *make_text(const struct cl_options *options)
{
	json_t *status = cl_ask_quietly(options);
	json_t *metrics = cl_metrics_of(status);
	char *text = NULL;
	size_t size = 0;
	FILE *out;

	out = open_memstream(&text, &size);
	if (out) {
		if (options->is_json)
			cl_json_print(out, metrics);
		else
			cl_metrics_print(out, metrics);
		fclose(out);
	}
	json_decref(metrics);
	json_decref(status);
	return text;
}

static enum MHD_Result answer(struct MHD_Connection *connection,
			      unsigned int code, char *text, const char *type)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	response = http.MHD_create_response_from_buffer(strlen(text), text,
							MHD_RESPMEM_MUST_COPY);
	if (!response)
		return MHD_NO;
	http.MHD_add_response_header(response, "Content-Type", type);
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		http.MHD_add_response_header(response, "Allow", "GET, HEAD");
	result = http.MHD_queue_response(connection, code, response);
	http.MHD_destroy_response(response);
	return result;
}

static enum MHD_Result refuse_request(struct MHD_Connection *connection,
				      unsigned int code, const char *text)
{
	return answer(connection, code, (char *)text, "text/plain");
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection,
			      const char *url, const char *method,
			      const char *version, const char *upload,
			      size_t *upload_size, void **request)
{
	const struct cl_options *options = arg;
	enum MHD_Result result;
	char *text;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)request;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse_request(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
				      "GET and HEAD only\n");
	if (strcmp(url, "/metrics") != 0)
		return refuse_request(connection, MHD_HTTP_NOT_FOUND,
				      "what there is is /metrics\n");
	text = make_text(options);
	if (!text)
		return MHD_NO;
	result = answer(connection, MHD_HTTP_OK, text,
			options->is_json ? "application/json"
					 : "text/plain; version=0.0.4");
	free(text);
	return result;
}

/* ---- serving ---- */

static int listen_at(const struct sockaddr_storage *address)
{
	socklen_t length = address->ss_family == AF_INET
				   ? sizeof(struct sockaddr_in)
				   : sizeof(struct sockaddr_in6);
	int one = 1;
	int fd = socket(address->ss_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)address, length) == 0 &&
	    listen(fd, CONNECTIONS_MAX) == 0)
		return fd;
	close(fd);
	return -1;
}

/* With the port that the system chose for 0. */
static void say_where(int fd, bool is_json)
{
	struct sockaddr_storage at = { 0 };
	const struct sockaddr_in *four = (const struct sockaddr_in *)&at;
	socklen_t length = sizeof(at);
	char host[INET6_ADDRSTRLEN] = "::1";

	getsockname(fd, (struct sockaddr *)&at, &length);
	if (at.ss_family == AF_INET)
		inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
	/* The port is at the same place in both. */
	printf(is_json ? "{ \"url\": \"http://%s%s%s:%u/metrics\" }\n"
		       : "http://%s%s%s:%u/metrics\n",
	       at.ss_family == AF_INET ? "" : "[", host,
	       at.ss_family == AF_INET ? "" : "]", ntohs(four->sin_port));
	fflush(stdout);
}

static int serve(const struct cl_options *options, int fd)
{
	struct MHD_Daemon *daemon;
	sigset_t ends;
	int signal;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	/* Before the server's thread starts: it inherits this. */
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	daemon = http.MHD_start_daemon(
		MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL,
		handle, (void *)options, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS,
		MHD_OPTION_END);
	if (!daemon) {
		close(fd);
		return cl_fail_text(options, EX_OSERR,
				    "cannot start the HTTP server: %s",
				    strerror(errno));
	}
	say_where(fd, options->is_json);
	sigwait(&ends, &signal);
	http.MHD_stop_daemon(daemon);
	return cl_end(EX_OK);
}

int cl_metrics_serve(const struct cl_options *options)
{
	struct sockaddr_storage address;
	char why[512];
	int fd;

	if (!cl_listen_parse(options->listen, &address, why, sizeof(why)))
		return cl_fail_text(options, EX_USAGE, "%s", why);
	if (!load_http())
		return cl_fail_text(options, EX_UNAVAILABLE,
				    "cannot serve: %s; install libmicrohttpd",
				    dlerror());
	fd = listen_at(&address);
	if (fd < 0)
		return cl_fail_text(options, EX_OSERR,
				    "cannot listen at %s: %s; choose another "
				    "port",
				    options->listen, strerror(errno));
	return serve(options, fd);
}
