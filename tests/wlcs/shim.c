// SPDX-License-Identifier: MIT
/*
 * A WLCS integration that puts wlproxy between WLCS and another integration's compositor.
 *
 * WLCS loads it (wlcs/display_server.h); it loads the other one.  WLCS's clients are connected to
 * the agent's socket.  The proxy takes a socket of ours for the compositor's, and what it
 * connects to that is joined to a client socket of the other integration: bytes and fds are copied
 * both ways, and none is looked at.
 *
 * To position a window, the other integration is told a client by its socket, and a surface by
 * its id.  Both are others than WLCS's: the proxy is asked for the id (tests/wlcs/proxy.py), and
 * a wl_display and wl_proxies that never say anything stand for them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <wayland-client.h>
#include <wlcs/display_server.h>

#define MOST_FDS 253 /* the kernel's SCM_MAX_FD */
#define MOST_IDS 4096
#define PATIENCE 30 /* seconds for anything that takes one */
#define PATIENCE_TO_READ 1000 /* milliseconds */
#define PATIENCE_TO_FINISH 3 /* seconds for a client to be let go */

struct splice {
	int host; /* the proxy's connection */
	int inner; /* the compositor's client socket */
	pthread_t thread;
};

struct connection {
	struct connection *next;
	int guest; /* what WLCS has */
	unsigned long table; /* what the proxy calls it */
	struct splice splice;
	struct wl_display *display; /* owns splice.inner */
	struct wl_proxy *proxies[MOST_IDS];
};

struct server {
	WlcsDisplayServer base;
	WlcsDisplayServer *inner;
	struct connection *connections;
};

static const WlcsServerIntegration *inner_integration;
static int listener = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Guarded by the lock: */
static WlcsDisplayServer *running; /* the inner one, while it runs */
static int expecting; /* the next connection is a client's */
static int arrived = -1; /* and here it is */

static void fail(const char *what)
{
	fprintf(stderr, "wlcs shim: %s: %s\n", what, strerror(errno));
	abort();
}

static const char *setting(const char *name)
{
	const char *value = getenv(name);

	if (!value) {
		fprintf(stderr, "wlcs shim: %s is not set\n", name);
		abort();
	}
	return value;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		fail(path);
	}
	strcpy(address.sun_path, path);
	return address;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Wait for an fd that does not block; false: it never will be ready. */
static int again(int fd, short events)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (errno == EINTR)
		return 1;
	return errno == EAGAIN && poll(&poll_fd, 1, -1) > 0;
}

static int send_all(int fd, struct msghdr *message)
{
	struct iovec *iov = message->msg_iov;
	ssize_t sent;

	while (iov->iov_len) {
		sent = sendmsg(fd, message, MSG_NOSIGNAL);
		if (sent < 0) {
			if (again(fd, POLLOUT))
				continue;
			return -1;
		}
		iov->iov_base = (char *)iov->iov_base + sent;
		iov->iov_len -= sent;
		message->msg_control = NULL;
		message->msg_controllen = 0;
	}
	return 0;
}

static void close_fds(struct msghdr *message)
{
	struct cmsghdr *header;
	size_t length, at;
	int fd;

	for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		length = header->cmsg_len - CMSG_LEN(0);
		for (at = 0; at + sizeof(fd) <= length; at += sizeof(fd)) {
			memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
			close(fd);
		}
	}
}

/* libwayland reads no more of what was said, once the other end has hung up. */
static void wait_until_read(int fd)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	int round, unread;

	for (round = 0; round < PATIENCE_TO_READ; round++) {
		if (ioctl(fd, SIOCOUTQ, &unread) || !unread)
			return;
		nanosleep(&pause, NULL);
	}
}

/* Copy bytes and fds until either end is gone. */
static void pump(int from, int to)
{
	char bytes[65536];
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(MOST_FDS * sizeof(int))];
	} control;
	ssize_t length;
	int failed;

	for (;;) {
		struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.room,
			.msg_controllen = sizeof(control.room),
		};
		struct msghdr received;

		length = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
		if (length < 0 && again(from, POLLIN))
			continue;
		if (length <= 0) {
			wait_until_read(to);
			shutdown(to, SHUT_RDWR);
			return;
		}
		received = message;
		iov.iov_len = length;
		failed = send_all(to, &message);
		close_fds(&received);
		/* What the other end still says is read to its end by the other thread. */
		if (failed)
			return;
	}
}

static void *pump_events(void *data)
{
	struct splice *splice = data;

	pump(splice->inner, splice->host);
	return NULL;
}

static void *run_splice(void *data)
{
	struct splice *splice = data;
	pthread_t events;

	if (pthread_create(&events, NULL, pump_events, splice))
		fail("a thread");
	pump(splice->host, splice->inner);
	pthread_join(events, NULL);
	return NULL;
}

/* A connection of the proxy's own: one that says nothing only watches for our end. */
static void *run_own(void *data)
{
	struct splice *splice = data;
	struct pollfd poll_fd = { .fd = splice->host, .events = POLLIN };

	while (poll(&poll_fd, 1, -1) < 0)
		;
	if (!(poll_fd.revents & POLLHUP)) {
		pthread_mutex_lock(&lock);
		while (!running)
			pthread_cond_wait(&changed, &lock);
		splice->inner = running->create_client_socket(running);
		pthread_mutex_unlock(&lock);
		run_splice(splice);
		close(splice->inner);
	}
	close(splice->host);
	free(splice);
	return NULL;
}

static void *run_listener(void *data)
{
	struct splice *splice;
	pthread_t thread;
	int host;

	(void)data;
	for (;;) {
		host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (host < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			fail("accept");
		}
		pthread_mutex_lock(&lock);
		if (expecting) {
			expecting = 0;
			arrived = host;
			pthread_cond_broadcast(&changed);
			pthread_mutex_unlock(&lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		splice = calloc(1, sizeof(*splice));
		if (!splice)
			fail("memory");
		splice->host = host;
		if (pthread_create(&thread, NULL, run_own, splice))
			fail("a thread");
		pthread_detach(thread);
	}
	return NULL;
}

static void start_listener(void)
{
	struct sockaddr_un address = address_of(setting("WLCS_SHIM_COMPOSITOR"));
	pthread_t thread;

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0)
		fail("socket");
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 128))
		fail(address.sun_path);
	if (pthread_create(&thread, NULL, run_listener, NULL))
		fail("a thread");
	pthread_detach(thread);
}

/* Ask the proxy's process for a number: a line, answered by a line. */
static unsigned long ask(const char *question)
{
	char answer[32];
	size_t length = 0;
	ssize_t got;
	int fd = connect_to(setting("WLCS_SHIM_IDS"));

	if (fd < 0)
		fail("the proxy does not tell its ids");
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question))
		fail("asking the proxy");
	while (length < sizeof(answer) - 1) {
		got = read(fd, answer + length, sizeof(answer) - 1 - length);
		if (got <= 0)
			break;
		length += got;
	}
	answer[length] = 0;
	close(fd);
	return strtoul(answer, NULL, 10);
}

/* Wait until a client is served, so that the proxy has no more to find out. */
static void wait_until_served(void)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
	struct wl_display *display;
	int round, served, fd;

	for (round = 0; round < PATIENCE * 10; round++) {
		fd = connect_to(setting("WLCS_SHIM_GUEST"));
		display = fd < 0 ? NULL : wl_display_connect_to_fd(fd);
		if (display) {
			served = wl_display_roundtrip(display) >= 0;
			wl_display_disconnect(display);
			if (served)
				return;
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "wlcs shim: no agent and proxy within %d s\n", PATIENCE);
	abort();
}

static int wait_for_host(void)
{
	struct timespec deadline;
	int host;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE;
	pthread_mutex_lock(&lock);
	while (arrived < 0 && !pthread_cond_timedwait(&changed, &lock, &deadline))
		;
	host = arrived;
	arrived = -1;
	expecting = 0;
	pthread_mutex_unlock(&lock);
	return host;
}

static int create_client_socket(WlcsDisplayServer *base)
{
	static int served;
	struct server *server = (struct server *)base;
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		fail("memory");
	if (!served)
		wait_until_served();
	served = 1;

	pthread_mutex_lock(&lock);
	expecting = 1;
	pthread_mutex_unlock(&lock);
	connection->guest = connect_to(setting("WLCS_SHIM_GUEST"));
	if (connection->guest < 0)
		fail("the agent's socket");
	connection->splice.host = wait_for_host();
	if (connection->splice.host < 0) {
		fprintf(stderr, "wlcs shim: the proxy has not connected\n");
		close(connection->guest);
		free(connection);
		return -1;
	}
	/* One after the other: the latest is this one. */
	connection->table = ask("latest\n");
	connection->splice.inner = server->inner->create_client_socket(server->inner);
	connection->display = wl_display_connect_to_fd(connection->splice.inner);
	if (!connection->display)
		fail("a display");
	if (pthread_create(&connection->splice.thread, NULL, run_splice, &connection->splice))
		fail("a thread");
	connection->next = server->connections;
	server->connections = connection;
	return connection->guest;
}

static struct wl_surface *stand_in(struct connection *connection, unsigned long id)
{
	struct wl_proxy *proxy;
	unsigned long at;

	if (id >= MOST_IDS)
		return NULL;
	/* libwayland gives ids out in order. */
	while (!connection->proxies[id]) {
		proxy = wl_proxy_create((struct wl_proxy *)connection->display,
					&wl_surface_interface);
		at = proxy ? wl_proxy_get_id(proxy) : MOST_IDS;
		if (at > id)
			fail("a proxy");
		connection->proxies[at] = proxy;
	}
	return (struct wl_surface *)connection->proxies[id];
}

static void position_window_absolute(WlcsDisplayServer *base, struct wl_display *client,
				     struct wl_surface *surface, int x, int y)
{
	struct server *server = (struct server *)base;
	struct connection *connection = server->connections;
	struct wl_surface *known;
	char question[64];

	/* The newest that has this fd: older ones are closed. */
	while (connection && connection->guest != wl_display_get_fd(client))
		connection = connection->next;
	if (!connection) {
		fprintf(stderr, "wlcs shim: a client that is not ours\n");
		return;
	}
	snprintf(question, sizeof(question), "%lu %u\n", connection->table,
		 wl_proxy_get_id((struct wl_proxy *)surface));
	known = stand_in(connection, ask(question));
	if (!known) {
		fprintf(stderr, "wlcs shim: the compositor does not know the surface\n");
		return;
	}
	/* The compositor's window begins where the frame does, WLCS's within it. */
	server->inner->position_window_absolute(server->inner, connection->display, known,
						x - atoi(setting("WLCS_SHIM_LEFT")),
						y - atoi(setting("WLCS_SHIM_TOP")));
}

static void start(WlcsDisplayServer *base)
{
	struct server *server = (struct server *)base;

	server->inner->start(server->inner);
	pthread_mutex_lock(&lock);
	running = server->inner;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Wait until both ends have hung up; if WLCS has not closed its own, make them. */
static void finish(struct splice *splice)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE_TO_FINISH;
	if (!pthread_timedjoin_np(splice->thread, NULL, &deadline))
		return;
	shutdown(splice->host, SHUT_RDWR);
	shutdown(splice->inner, SHUT_RDWR);
	pthread_join(splice->thread, NULL);
}

static void stop(WlcsDisplayServer *base)
{
	struct server *server = (struct server *)base;
	struct connection *connection;
	int id;

	/* First the clients, as where WLCS closes the compositor's sockets itself. */
	while ((connection = server->connections)) {
		server->connections = connection->next;
		finish(&connection->splice);
		close(connection->splice.host);
		for (id = 0; id < MOST_IDS; id++)
			if (connection->proxies[id])
				wl_proxy_destroy(connection->proxies[id]);
		wl_display_disconnect(connection->display);
		free(connection);
	}
	pthread_mutex_lock(&lock);
	running = NULL;
	pthread_mutex_unlock(&lock);
	server->inner->stop(server->inner);
}

static WlcsPointer *create_pointer(WlcsDisplayServer *base)
{
	struct server *server = (struct server *)base;

	return server->inner->create_pointer(server->inner);
}

static WlcsTouch *create_touch(WlcsDisplayServer *base)
{
	struct server *server = (struct server *)base;

	return server->inner->create_touch(server->inner);
}

static const WlcsIntegrationDescriptor *get_descriptor(const WlcsDisplayServer *base)
{
	const struct server *server = (const struct server *)base;

	return server->inner->get_descriptor(server->inner);
}

static void load_inner(void)
{
	void *library = dlopen(setting("WLCS_SHIM_INNER"), RTLD_NOW | RTLD_LOCAL);

	if (library)
		inner_integration = dlsym(library, "wlcs_server_integration");
	if (!inner_integration) {
		fprintf(stderr, "wlcs shim: %s\n", dlerror());
		abort();
	}
}

static WlcsDisplayServer *create_server(int argc, const char **argv)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		fail("memory");
	if (!inner_integration) {
		load_inner();
		start_listener();
	}
	server->inner = inner_integration->create_server(argc, argv);
	if (!server->inner || server->inner->version < 2 || !server->inner->start) {
		fprintf(stderr, "wlcs shim: it has no version 2, or no thread of its own\n");
		abort();
	}
	server->base = (WlcsDisplayServer){
		.version = 2,
		.start = start,
		.stop = stop,
		.create_client_socket = create_client_socket,
		.position_window_absolute = position_window_absolute,
		.create_pointer = create_pointer,
		.create_touch = create_touch,
		.get_descriptor = get_descriptor,
	};
	return &server->base;
}

static void destroy_server(WlcsDisplayServer *base)
{
	struct server *server = (struct server *)base;

	inner_integration->destroy_server(server->inner);
	free(server);
}

const WlcsServerIntegration wlcs_server_integration = {
	.version = 1,
	.create_server = create_server,
	.destroy_server = destroy_server,
};
