/* wsload: a WebSocket load generator. One thread, one epoll loop, no dependency but Linux and libc.
 *
 * It knows WebSocket framing and two shapes of traffic, nothing else. What a connection says when it opens, what
 * tells that it is ready, and how a publication looks are arguments:
 *
 *   plain peers        a connection is ready after the 101 answer; a publication is the bare payload
 *   Centrifuge JSON    --frames FILE --ack STRING --publication TEMPLATE --heartbeats, and for its HTTP API --api-*
 *
 * Arguments
 *   --host ADDRESS --port PORT
 *   --rooms N             subscriber k is in room k modulo N (default 1); publications go to the room of who makes them
 *   --subscribe-path PATH --publish-path PATH   request targets of subscribers and publishers
 *   --frames FILE         opening frames, one a line; connection k sends line k modulo the number of lines.
 *                         A tab stands for the newline between two commands of a frame. Without it: nothing is sent.
 *   --ack STRING          a connection is ready when a message contains this
 *   --publication STRING  template of a publication. Default "$"
 *   --heartbeats          answer each line {} with {}
 *   --history STRING      what a client sends in a storm when its position could not be recovered
 *   --api-header STRING   a header of each HTTP request, for the key
 *   --api-publish STRING  template of the parameters of a publish
 *   --in-flight N         handshakes in progress at once (default 128)
 *   --spin                poll without sleeping while measuring, so that the server never pays for waking us
 *
 * In paths, frames and templates ^ becomes the number of the room; in publications and API parameters also % an
 * increasing id and $ the payload; in opening frames ~ becomes the position to recover from, nothing the first time.
 *
 * Commands on stdin, one JSON line on stdout for each
 *   open COUNT                            open COUNT subscribers and wait until all are ready
 *   publishers COUNT                      the same for publishers; what they receive is read and not counted
 *   settle MILLISECONDS                   read and answer heartbeats
 *   rate PER_SECOND SECONDS MIN MAX       open loop; payload sizes walk through MIN..MAX bytes
 *   burst IN_FLIGHT SECONDS MIN MAX       closed loop: a publication is done when every subscriber has it
 *   load PER_SECOND SECONDS MIN MAX       open loop that does not wait for what is still missing when time is up
 *   api CONNECTIONS SECONDS MIN MAX BATCH closed loop of HTTP requests with BATCH publications each
 *   break                                 close all subscribers without a word
 *   closed SECONDS                        wait until the server has closed all subscribers
 *   storm BEFORE DURING EVERY MIN MAX     all subscribers come back at once. BEFORE publications are made by the HTTP
 *                                         API before the first comes, DURING more, one each EVERY milliseconds; a
 *                                         client is done when it is subscribed and has them all
 *   quit
 *
 * Without publishers the subscribers publish, in turn. A payload is {"mark":"@<sequence, 8 hex digits>@","fill":"..."};
 * the sequence number is the index of the table with the instant of publishing. Latency is measured on one clock, since
 * both ends are this process; for api it is that of the requests.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (4u << 20)      /* one frame must fit */
#define WRITE_BYTES (1u << 18)     /* one publication must fit */
#define EVENTS 1024
#define SEQUENCES (4u << 20)       /* publications of one phase */
#define MARK_BYTES 10              /* '@' + 8 hex digits + '@' */
#define PAYLOAD_MIN 40
#define STALL_NS 5000000000ull     /* without a delivery for so long a phase is given up */
#define OPEN_STALL_NS 20000000000ull
#define PER_ADDRESS 4000           /* connections per source address, so that ports never run out */
#define ROOMS 1024
#define STORM_PUBLICATIONS 64      /* a client's are bits of a word */
#define RETRY_NS 500000000ull      /* a client that was refused in a storm comes again after so long */
#define EPOCH_BYTES 24

enum role { SUBSCRIBER, PUBLISHER, API };
enum state { HANDSHAKE, OPENING, READY, CLOSED };
enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

typedef struct {
  int fd;
  uint8_t role, state;
  bool is_back;      /* in a storm: recovered, or history asked for */
  bool is_recovered;
  uint16_t room;
  uint32_t index;    /* picks address and opening frame */
  char epoch[EPOCH_BYTES];
  uint64_t offset;   /* where to recover from */
  uint64_t at;       /* when an HTTP request was sent, or when to dial again */
  uint64_t have;     /* publications of a storm, as bits */
  uint8_t *in;       /* an unfinished frame, NULL when there is none */
  size_t in_bytes;
  uint8_t *out;      /* what the socket did not take, NULL when there is nothing */
  size_t out_bytes;
} connection;

static struct {
  const char *host, *subscribe_path, *publish_path, *ack, *publication, *history, *api_header, *api_publish;
  int port, in_flight, rooms;
  bool heartbeats, spin;
  char **frames;
  size_t frame_count;
} options = {.host = "127.0.0.1", .subscribe_path = "/", .publish_path = "/", .publication = "$", .in_flight = 128,
             .rooms = 1};

static int poller;
static uint8_t read_buffer[READ_BYTES];
static connection **publishers, **subscribers;
static size_t connection_count, publisher_count, subscriber_count, next_publisher;
static int ready_subscribers, ready_publishers, handshakes, refused, lost, open_apis;
static int room_members[ROOMS];
static bool leaving;               /* the server is expected to close everybody */
static char trouble[400];          /* the first refusal, error reply or close, for the report */
static uint64_t errors;
static uint32_t command_id = 100;  /* above every id of the opening frames */

/* one phase */
static uint32_t *missing;          /* by sequence: subscribers that do not have it yet */
static uint64_t *published_at, *finished_at;
static uint32_t next_sequence, finished_below;
static uint64_t deliveries, expected_deliveries, delivered_bytes, frames_read, answered_requests;
static bool spinning, timing_requests;
static uint64_t busy_ns;           /* spent on work, not on waiting; meaningful when spinning too */

/* the open loop: what is due is published between the events of a turn, so that reading much does not delay it */
static struct {
  double per_second;
  uint64_t start, latest_ns;       /* how late the latest publication was */
  uint32_t total;                  /* 0 when there is no open loop */
  int min_bytes, max_bytes;
} pace;

/* a storm */
static struct {
  bool on;
  uint64_t start, full;            /* full: the bits of all publications */
  int done, recovered, unrecovered, retries;
  uint64_t disorder;               /* publications missing, repeated or out of order after a recovery */
} storm;

/* ---- clocks and the histogram ---------------------------------------------------------------------------------- */

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

#define SUB_BUCKETS 64             /* a power of two is cut into 64: 1.6 % resolution */
#define BUCKETS (SUB_BUCKETS * 60)
static uint64_t histogram[BUCKETS], samples, slowest;

static inline void record(uint64_t ns) {
  size_t i = ns;
  if (ns >= SUB_BUCKETS) {
    int shift = 63 - __builtin_clzll(ns) - 6;
    i = (size_t)(shift + 1) * SUB_BUCKETS + (size_t)((ns >> shift) - SUB_BUCKETS);
  }
  histogram[i < BUCKETS ? i : BUCKETS - 1]++;
  samples++;
  if (ns > slowest) slowest = ns;
}

static double quantile_ms(double q) {
  uint64_t wanted = (uint64_t)(q * (double)samples), seen = 0;
  for (size_t i = 0; i < BUCKETS; i++) {
    seen += histogram[i];
    if (seen <= wanted) continue;
    if (i < SUB_BUCKETS) return (double)i / 1e6;
    int shift = (int)(i / SUB_BUCKETS) - 1;
    return (double)(((uint64_t)(i % SUB_BUCKETS + SUB_BUCKETS) << shift) + ((1ull << shift) >> 1)) / 1e6;
  }
  return (double)slowest / 1e6;
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* ---- what went wrong ------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
  if (trouble[0]) return; /* the first one explains the others */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(trouble, sizeof trouble, format, arguments);
  va_end(arguments);
  for (char *p = trouble; *p; p++)
    if (*p == '"' || *p == '\\') *p = '\'';
    else if ((unsigned char)*p < 32 || (unsigned char)*p > 126) *p = ' ';
}

static void drop(connection *c) {
  if (c->state == CLOSED) return;
  if (c->role == API) {
    open_apis--;
  } else if (c->state == READY) {
    if (!leaving) lost++;
    if (c->role == SUBSCRIBER) { ready_subscribers--; room_members[c->room]--; }
    else ready_publishers--;
  } else {
    handshakes--;
    if (storm.on) { storm.retries++; c->at = now_ns() + RETRY_NS; }
    else refused++;
  }
  c->state = CLOSED;
  close(c->fd);
  free(c->in);
  free(c->out);
  c->in = c->out = NULL;
  c->in_bytes = c->out_bytes = 0;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static void watch(connection *c, bool writable) {
  struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(connection *c) {
  ssize_t n = send(c->fd, c->out, c->out_bytes, MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN) drop(c);
    return;
  }
  c->out_bytes -= (size_t)n;
  memmove(c->out, c->out + n, c->out_bytes);
  if (c->out_bytes) return;
  free(c->out);
  c->out = NULL;
  watch(c, false);
}

static void put(connection *c, const uint8_t *bytes, size_t count) {
  if (!c->out) {
    ssize_t n = send(c->fd, bytes, count, MSG_NOSIGNAL);
    if (n == (ssize_t)count) return;
    if (n < 0 && errno != EAGAIN) { note("send: %s", strerror(errno)); drop(c); return; }
    if (n > 0) { bytes += n; count -= (size_t)n; }
    watch(c, true);
  }
  c->out = realloc(c->out, c->out_bytes + count);
  memcpy(c->out + c->out_bytes, bytes, count);
  c->out_bytes += count;
}

static void put_frame(connection *c, enum opcode opcode, const uint8_t *payload, size_t count) {
  static uint8_t frame[WRITE_BYTES + 14];
  size_t n = 0;
  frame[n++] = (uint8_t)(0x80 | opcode);
  if (count < 126) frame[n++] = (uint8_t)(0x80 | count);
  else if (count < 65536) {
    frame[n++] = 0x80 | 126;
    frame[n++] = (uint8_t)(count >> 8);
    frame[n++] = (uint8_t)count;
  } else {
    frame[n++] = 0x80 | 127;
    for (int shift = 56; shift >= 0; shift -= 8) frame[n++] = (uint8_t)((uint64_t)count >> shift);
  }
  memset(frame + n, 0, 4); /* the masking key zero is legal and spares us the masking */
  n += 4;
  memcpy(frame + n, payload, count);
  put(c, frame, n + count);
}

/* Fills in a template; returns the number of bytes. A sequence of -1: there is no payload. */
static size_t expand(char *to, const char *template, const connection *c, int64_t sequence, size_t payload_bytes) {
  static char fill[WRITE_BYTES];
  char *out = to;
  if (!fill[0])
    for (size_t i = 0; i < sizeof fill; i++) fill[i] = (char)('a' + i % 26);
  for (const char *p = template; *p; p++) {
    if (*p == '^') out += sprintf(out, "%u", c->room);
    else if (*p == '~' && c->epoch[0])
      out += sprintf(out, ",\"recover\":true,\"offset\":%llu,\"epoch\":\"%s\"", (unsigned long long)c->offset,
                     c->epoch);
    else if (*p == '~') continue;
    else if (*p == '%' && sequence >= 0) out += sprintf(out, "%u", ++command_id);
    else if (*p == '$' && sequence >= 0) {
      int head = sprintf(out, "{\"mark\":\"@%08x@\",\"fill\":\"", (unsigned)sequence);
      size_t rest = payload_bytes - (size_t)head - 2;
      memcpy(out + head, fill, rest);
      out += (size_t)head + rest;
      *out++ = '"';
      *out++ = '}';
    } else *out++ = *p;
  }
  return (size_t)(out - to);
}

static void publish(connection *c, uint32_t sequence, size_t payload_bytes) {
  static char message[WRITE_BYTES];
  size_t n = expand(message, options.publication, c, sequence, payload_bytes);
  put_frame(c, TEXT, (const uint8_t *)message, n);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static void ready(connection *c) {
  c->state = READY;
  handshakes--;
  if (c->role == SUBSCRIBER) { ready_subscribers++; room_members[c->room]++; }
  else {
    ready_publishers++;
    publishers = realloc(publishers, (publisher_count + 1) * sizeof *publishers);
    publishers[publisher_count++] = c;
  }
}

static inline int hex(uint8_t digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

static inline uint32_t sequence_of(const uint8_t *mark) {
  uint32_t sequence = 0;
  for (int i = 1; i <= 8; i++) sequence = sequence << 4 | (uint32_t)hex(mark[i]);
  return sequence;
}

/* The next mark of a line, or NULL. */
static inline const uint8_t *find_mark(const uint8_t *from, const uint8_t *end) {
  const uint8_t *mark = memchr(from, '@', (size_t)(end - from));
  return mark && mark + MARK_BYTES <= end && mark[MARK_BYTES - 1] == '@' ? mark : NULL;
}

static inline void finish(uint32_t sequence, uint64_t now) {
  finished_at[sequence] = now;
  while (finished_below < next_sequence && finished_at[finished_below]) finished_below++;
}

static inline void on_mark(connection *c, const uint8_t *mark, size_t bytes, uint64_t now) {
  if (c->role != SUBSCRIBER) return;
  uint32_t sequence = sequence_of(mark);
  if (sequence >= next_sequence) return; /* left over from an earlier phase */
  deliveries++;
  delivered_bytes += bytes;
  if (!timing_requests) record(now - published_at[sequence]);
  if (!missing[sequence]) { errors++; note("publication %u was delivered too often", sequence); return; }
  if (!--missing[sequence]) finish(sequence, now);
}

/* Remembers the newest offset of a line, and the epoch of a reply; offsets count anew with another epoch. */
static void track(connection *c, const uint8_t *line, size_t bytes) {
  static const char offset[] = "\"offset\":", epoch[] = "\"epoch\":\"";
  const uint8_t *end = line + bytes, *at = c->state == OPENING ? memmem(line, bytes, epoch, sizeof epoch - 1) : NULL;
  if (at) {
    const uint8_t *value = at + sizeof epoch - 1, *quote = memchr(value, '"', (size_t)(end - value));
    size_t length = quote ? (size_t)(quote - value) : 0;
    if (length && length < EPOCH_BYTES && (strlen(c->epoch) != length || memcmp(c->epoch, value, length) != 0)) {
      memcpy(c->epoch, value, length);
      c->epoch[length] = 0;
      c->offset = 0;
    }
  }
  for (at = line; (at = memmem(at, (size_t)(end - at), offset, sizeof offset - 1));) {
    uint64_t value = 0;
    for (at += sizeof offset - 1; at < end && *at >= '0' && *at <= '9'; at++)
      value = value * 10 + (uint64_t)(*at - '0');
    if (value > c->offset) c->offset = value;
  }
}

static void put_text(connection *c, const char *text) { put_frame(c, TEXT, (const uint8_t *)text, strlen(text)); }

/* In a storm publications come in replies, many in a line, and each client's are counted for itself. */
static void on_storm_line(connection *c, const uint8_t *line, size_t bytes, uint64_t now) {
  const uint8_t *end = line + bytes;
  bool is_ack = c->state == OPENING && memmem(line, bytes < 64 ? bytes : 64, options.ack, strlen(options.ack));
  if (is_ack) c->is_recovered = memmem(line, bytes, "\"recovered\":true", 16) != NULL;
  for (const uint8_t *mark = line; (mark = find_mark(mark, end)); mark += MARK_BYTES) {
    uint32_t sequence = sequence_of(mark);
    if (sequence >= next_sequence) continue;
    deliveries++;
    if (c->is_recovered && sequence != (uint32_t)__builtin_popcountll(c->have)) storm.disorder++;
    c->have |= 1ull << sequence;
  }
  if (is_ack) {
    ready(c);
    if (c->is_recovered) storm.recovered++;
    else storm.unrecovered++;
    if (!c->is_recovered && options.history) {
      char message[512];
      message[expand(message, options.history, c, -1, 0)] = 0;
      put_text(c, message);
    }
  }
  if (c->state != READY || c->have != storm.full || c->is_back) return;
  c->is_back = true;
  storm.done++;
  record(now - storm.start);
}

static inline void on_line(connection *c, const uint8_t *line, size_t bytes, uint64_t now) {
  if (bytes == 2 && line[0] == '{') {
    if (options.heartbeats) put_text(c, "{}");
    return;
  }
  if (options.history && c->role == SUBSCRIBER) track(c, line, bytes);
  /* Only replies begin with an id, so that a delivery is not searched. */
  if (options.ack && bytes > 2 && line[2] == 'i' && memmem(line, bytes < 64 ? bytes : 64, "\"error\":{", 9)) {
    errors++;
    note("error reply: %.*s", (int)(bytes > 200 ? 200 : bytes), line);
    if (c->state == OPENING) drop(c);
    return;
  }
  if (storm.on) { on_storm_line(c, line, bytes, now); return; }
  const uint8_t *mark = find_mark(line, line + bytes);
  if (mark) on_mark(c, mark, bytes, now);
  else if (c->state == OPENING && memmem(line, bytes, options.ack, strlen(options.ack))) ready(c);
}

static void on_message(connection *c, const uint8_t *message, size_t bytes, uint64_t now) {
  const uint8_t *end = message + bytes;
  frames_read++;
  while (message < end && c->state != CLOSED) {
    const uint8_t *newline = memchr(message, '\n', (size_t)(end - message));
    const uint8_t *line_end = newline ? newline : end;
    on_line(c, message, (size_t)(line_end - message), now);
    message = line_end + 1;
  }
}

static void on_frame(connection *c, uint8_t opcode, const uint8_t *payload, size_t bytes, uint64_t now) {
  switch (opcode) {
    case CONTINUATION:
    case TEXT:
    case BINARY: on_message(c, payload, bytes, now); break;
    case PING: put_frame(c, PONG, payload, bytes); break;
    case CLOSE:
      if (bytes >= 2) note("closed by the server: %d %.*s", payload[0] << 8 | payload[1], (int)bytes - 2, payload + 2);
      else note("closed by the server without a code");
      drop(c);
      break;
    default: break;
  }
}

static size_t on_answer(connection *c, const uint8_t *bytes, size_t count) {
  const uint8_t *end = memmem(bytes, count, "\r\n\r\n", 4);
  if (!end) return 0;
  if (count < 12 || memcmp(bytes + 9, "101", 3) != 0) {
    const uint8_t *line_end = memchr(bytes, '\r', count);
    note("handshake refused: %.*s", (int)(line_end - bytes), bytes);
    drop(c);
    return count;
  }
  c->state = OPENING;
  if (options.frame_count) {
    static char frame[8192];
    frame[expand(frame, options.frames[c->index % options.frame_count], c, -1, 0)] = 0;
    put_text(c, frame);
  }
  if (!options.ack && c->state == OPENING) ready(c);
  return (size_t)(end + 4 - bytes);
}

static void on_api_answer(connection *c, uint64_t now);

/* An HTTP answer, whole; returns how many bytes it took, 0 when more must come. */
static size_t parse_api_answer(connection *c, const uint8_t *bytes, size_t count, uint64_t now) {
  static const char length_field[] = "content-length:";
  const uint8_t *head_end = memmem(bytes, count, "\r\n\r\n", 4);
  if (!head_end) return 0;
  size_t body_bytes = 0, head_bytes = (size_t)(head_end + 4 - bytes);
  for (const uint8_t *at = bytes; at < head_end; at++)
    if ((*at == 'c' || *at == 'C') && !strncasecmp((const char *)at, length_field, sizeof length_field - 1))
      body_bytes = strtoul((const char *)at + sizeof length_field - 1, NULL, 10);
  if (count - head_bytes < body_bytes) return 0;
  if (memcmp(bytes + 9, "200", 3) != 0 || memmem(bytes + head_bytes, body_bytes, "\"error\"", 7)) {
    errors++;
    note("the HTTP API answered: %.*s", (int)(body_bytes > 200 ? 200 : body_bytes), bytes + head_bytes);
  }
  on_api_answer(c, now);
  return head_bytes + body_bytes;
}

/* Returns how many bytes were used up; the rest is the beginning of a frame. */
static size_t parse(connection *c, const uint8_t *bytes, size_t count, uint64_t now) {
  if (c->role == API) return parse_api_answer(c, bytes, count, now);
  size_t used = c->state == HANDSHAKE ? on_answer(c, bytes, count) : 0;
  if (c->state == HANDSHAKE) return used;
  while (c->state != CLOSED && count - used >= 2) {
    const uint8_t *head = bytes + used;
    size_t head_bytes = 2, length = head[1] & 127;
    if (length == 126) head_bytes = 4;
    else if (length == 127) head_bytes = 10;
    if (count - used < head_bytes) break;
    if (head_bytes > 2) {
      length = 0;
      for (size_t i = 2; i < head_bytes; i++) length = length << 8 | head[i];
    }
    if (count - used - head_bytes < length) break;
    on_frame(c, head[0] & 15, head + head_bytes, length, now);
    used += head_bytes + length;
  }
  return c->state == CLOSED ? count : used;
}

static void on_readable(connection *c) {
  size_t have = c->in_bytes;
  if (have) memcpy(read_buffer, c->in, have);
  if (have == READ_BYTES) { note("a frame above %u bytes", READ_BYTES); drop(c); return; }
  ssize_t n = recv(c->fd, read_buffer + have, READ_BYTES - have, 0);
  if (n <= 0) {
    if (n < 0 && errno == EAGAIN) return;
    note(n ? "connection lost: %s" : "connection closed by the server", strerror(errno));
    drop(c);
    return;
  }
  have += (size_t)n;
  size_t used = parse(c, read_buffer, have, now_ns());
  if (c->state == CLOSED) return;
  if (used == have) {
    free(c->in);
    c->in = NULL;
    c->in_bytes = 0;
    return;
  }
  if (have - used > c->in_bytes) c->in = realloc(c->in, have - used);
  memcpy(c->in, read_buffer + used, have - used);
  c->in_bytes = have - used;
}

static void publish_due(uint64_t now);

/* One turn of the loop. Returns the number of events handled. */
static int turn(int timeout_ms) {
  struct epoll_event events[EVENTS];
  int n = epoll_wait(poller, events, EVENTS, spinning ? 0 : timeout_ms);
  if (n <= 0) return 0;
  uint64_t start = now_ns();
  for (int i = 0; i < n; i++) {
    connection *c = events[i].data.ptr;
    if (c->state != CLOSED && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(c);
    if (c->state != CLOSED && events[i].events & EPOLLOUT && c->out) flush(c);
    if (pace.total && (i & 7) == 7) publish_due(now_ns());
  }
  busy_ns += now_ns() - start;
  return n;
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* Opens the socket of a connection; returns false when that failed at once. */
static bool connect_socket(connection *c) {
  int yes = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) { note("socket: %s", strerror(errno)); return false; }
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
  to.sin_port = htons((uint16_t)options.port);
  from.sin_addr.s_addr = htonl(0x7f000001u + ((c->index / PER_ADDRESS) << 8));
  inet_pton(AF_INET, options.host, &to.sin_addr);
  if (bind(c->fd, (void *)&from, sizeof from) < 0 ||
      (connect(c->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS)) {
    note("connect: %s", strerror(errno));
    close(c->fd);
    return false;
  }
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
  return true;
}

static bool dial(connection *c) {
  if (!connect_socket(c)) return false;
  c->state = HANDSHAKE;
  handshakes++;
  char path[512], request[2048];
  path[expand(path, c->role == SUBSCRIBER ? options.subscribe_path : options.publish_path, c, -1, 0)] = 0;
  int n = snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Key: d3Nsb2FkIGxvYWQgdGVzdA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                   path, options.host, options.port);
  put(c, (const uint8_t *)request, (size_t)n);
  return true;
}

static void dial_new(enum role role) {
  connection *c = calloc(1, sizeof *c); /* never freed: an event of this turn may still name it */
  size_t place = role == SUBSCRIBER ? subscriber_count : (size_t)(ready_publishers + handshakes);
  c->role = (uint8_t)role;
  c->index = (uint32_t)connection_count++;
  c->room = (uint16_t)(place % (size_t)options.rooms);
  if (!dial(c)) { refused++; free(c); return; }
  if (role != SUBSCRIBER) return;
  if (subscriber_count % 1024 == 0)
    subscribers = realloc(subscribers, (subscriber_count + 1024) * sizeof *subscribers);
  subscribers[subscriber_count++] = c;
}

/* Returns false when nothing moved for OPEN_STALL_NS. */
static bool wait_handshakes(int at_most) {
  uint64_t moved = now_ns();
  while (handshakes > at_most) {
    if (turn(100)) moved = now_ns();
    else if (now_ns() - moved > OPEN_STALL_NS) { note("%d handshakes got no answer", handshakes); return false; }
  }
  return true;
}

static void open_connections(const char *command, enum role role, int count) {
  int before = role == SUBSCRIBER ? ready_subscribers : ready_publishers, refused_before = refused;
  uint64_t start = now_ns();
  busy_ns = 0;
  for (int i = 0; i < count && refused - refused_before < 10; i++) {
    uint64_t dialling = now_ns();
    dial_new(role);
    busy_ns += now_ns() - dialling;
    if (!wait_handshakes(options.in_flight - 1)) break;
  }
  wait_handshakes(0);
  double seconds = (double)(now_ns() - start) / 1e9;
  int opened = (role == SUBSCRIBER ? ready_subscribers : ready_publishers) - before;
  printf("{\"command\":\"%s\",\"seconds\":%.4f,\"opened\":%d,\"wanted\":%d,\"per_second\":%.1f,\"subscribers\":%d,"
         "\"lost\":%d,\"errors\":%llu,\"generator_cpu\":%.4f,\"trouble\":\"%s\"}\n",
         command, seconds, opened, count, opened / seconds, ready_subscribers, lost, (unsigned long long)errors,
         (double)busy_ns / 1e9 / seconds, trouble);
}

/* ---- the measured phases --------------------------------------------------------------------------------------- */

static void begin_phase(void) {
  if (!missing) {
    missing = calloc(SEQUENCES, sizeof *missing);
    published_at = calloc(SEQUENCES, sizeof *published_at);
    finished_at = calloc(SEQUENCES, sizeof *finished_at);
  }
  memset(missing, 0, next_sequence * sizeof *missing);
  memset(published_at, 0, next_sequence * sizeof *published_at);
  memset(finished_at, 0, next_sequence * sizeof *finished_at);
  memset(histogram, 0, sizeof histogram);
  samples = slowest = deliveries = expected_deliveries = delivered_bytes = frames_read = 0;
  answered_requests = busy_ns = 0;
  next_sequence = finished_below = 0;
  spinning = options.spin;
}

static size_t payload_bytes_of(uint32_t sequence, int min_bytes, int max_bytes) {
  size_t bytes = (size_t)min_bytes + (sequence * 97u) % (uint32_t)(max_bytes - min_bytes + 1);
  return bytes < PAYLOAD_MIN ? PAYLOAD_MIN : bytes;
}

/* Takes the next sequence number for a publication to a room. */
static uint32_t begin_publication(uint16_t room, uint64_t now) {
  uint32_t sequence = next_sequence++;
  published_at[sequence] = now;
  missing[sequence] = (uint32_t)room_members[room];
  expected_deliveries += missing[sequence];
  if (!missing[sequence]) finish(sequence, now);
  return sequence;
}

static void publish_next(int min_bytes, int max_bytes) {
  connection *c = publisher_count ? publishers[next_publisher++ % publisher_count]
                                  : subscribers[next_publisher++ % subscriber_count];
  uint32_t sequence = begin_publication(c->room, now_ns());
  if (c->state == READY) publish(c, sequence, payload_bytes_of(sequence, min_bytes, max_bytes));
}

static void publish_due(uint64_t now) {
  for (; next_sequence < pace.total; now = now_ns()) {
    uint64_t due = pace.start + (uint64_t)(next_sequence * 1e9 / pace.per_second);
    if (due > now) return;
    if (now - due > pace.latest_ns) pace.latest_ns = now - due;
    publish_next(pace.min_bytes, pace.max_bytes);
  }
}

static void begin_pace(double per_second, double seconds, int min_bytes, int max_bytes) {
  double total = per_second * seconds + 0.5;
  pace.per_second = per_second;
  pace.total = total < SEQUENCES ? (uint32_t)total : SEQUENCES;
  pace.min_bytes = min_bytes;
  pace.max_bytes = max_bytes;
  pace.latest_ns = 0;
  pace.start = now_ns();
}

static void end_phase(const char *command, uint64_t start) {
  double seconds = (double)(now_ns() - start) / 1e9;
  spinning = timing_requests = false;
  pace.total = 0;
  uint64_t *whole = calloc(next_sequence + 1, sizeof *whole);
  uint32_t complete = 0;
  for (uint32_t i = 0; i < next_sequence; i++)
    if (finished_at[i]) whole[complete++] = finished_at[i] - published_at[i];
  qsort(whole, complete, sizeof *whole, by_value);
  printf("{\"command\":\"%s\",\"seconds\":%.4f,\"published\":%u,\"incomplete\":%u,\"subscribers\":%d,"
         "\"deliveries\":%llu,\"deliveries_per_second\":%.1f,\"bytes_per_second\":%.0f,\"frames\":%llu,"
         "\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"last_p50_ms\":%.4f,\"last_p99_ms\":%.4f,"
         "\"requests\":%llu,\"published_late_ms\":%.3f,"
         "\"lost\":%d,\"errors\":%llu,\"generator_cpu\":%.4f,\"trouble\":\"%s\"}\n",
         command, seconds, next_sequence, next_sequence - complete, ready_subscribers,
         (unsigned long long)deliveries, (double)deliveries / seconds, (double)delivered_bytes / seconds,
         (unsigned long long)frames_read,
         quantile_ms(.5), quantile_ms(.99), (double)slowest / 1e6,
         complete ? (double)whole[complete / 2] / 1e6 : 0, complete ? (double)whole[(size_t)(complete * .99)] / 1e6 : 0,
         (unsigned long long)answered_requests, (double)pace.latest_ns / 1e6, lost, (unsigned long long)errors,
         (double)busy_ns / 1e9 / seconds, trouble);
  free(whole);
}

static void run_rate(double per_second, double seconds, int min_bytes, int max_bytes) {
  begin_phase();
  begin_pace(per_second, seconds, min_bytes, max_bytes);
  uint64_t start = pace.start, moved = start;
  while (next_sequence < pace.total || finished_below < pace.total) {
    uint64_t now = now_ns(), due = start + (uint64_t)(next_sequence * 1e9 / per_second);
    if (next_sequence < pace.total && due <= now) {
      publish_due(now);
      moved = now_ns();
      busy_ns += moved - now;
      continue;
    }
    /* Sleep between publications: a process that never sleeps is punished by the scheduler, which would show in p99. */
    spinning = options.spin && (finished_below < next_sequence || due - now < 2000000);
    int wait_ms = next_sequence < pace.total ? (int)((due - now) / 1000000) : 5;
    if (turn(wait_ms < 5 ? wait_ms : 5)) moved = now_ns();
    else if (now_ns() - moved > STALL_NS) { note("no delivery for 5 s"); break; }
  }
  end_phase("rate", start);
}

/* The backlog is what was published and not delivered, in deliveries; its growth is the difference between the means of
 * the last two quarters of the time. */
static void run_load(double per_second, double seconds, int min_bytes, int max_bytes) {
  double backlog_sum[4] = {0};
  uint64_t backlog_count[4] = {0};
  begin_phase();
  begin_pace(per_second, seconds, min_bytes, max_bytes);
  uint64_t start = pace.start, length = (uint64_t)(seconds * 1e9), now = start, sampled = start;
  while (now - start < length) {
    publish_due(now);
    busy_ns += now_ns() - now;
    turn(1);
    now = now_ns();
    if (now - sampled < 5000000) continue;
    sampled = now;
    size_t quarter = (size_t)(4 * (now - start) / length);
    if (quarter > 3) quarter = 3;
    backlog_sum[quarter] += (double)(expected_deliveries - deliveries);
    backlog_count[quarter]++;
  }
  spinning = false;
  pace.total = 0;
  double last = backlog_count[3] ? backlog_sum[3] / (double)backlog_count[3] : 0;
  double before = backlog_count[2] ? backlog_sum[2] / (double)backlog_count[2] : 0;
  printf("{\"command\":\"load\",\"seconds\":%.4f,\"published\":%u,\"subscribers\":%d,\"deliveries\":%llu,"
         "\"expected\":%llu,\"backlog_mean\":%.0f,\"backlog_growth_per_second\":%.0f,\"bytes_per_second\":%.0f,"
         "\"frames\":%llu,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"published_late_ms\":%.3f,"
         "\"lost\":%d,\"errors\":%llu,\"generator_cpu\":%.4f,\"trouble\":\"%s\"}\n",
         seconds, next_sequence, ready_subscribers, (unsigned long long)deliveries,
         (unsigned long long)expected_deliveries, last, (last - before) / (seconds / 4),
         (double)delivered_bytes / seconds, (unsigned long long)frames_read, quantile_ms(.5), quantile_ms(.99),
         (double)slowest / 1e6, (double)pace.latest_ns / 1e6, lost, (unsigned long long)errors,
         (double)busy_ns / 1e9 / seconds, trouble);
}

static void run_burst(int in_flight, double seconds, int min_bytes, int max_bytes) {
  begin_phase();
  uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), moved = start;
  for (;;) {
    uint64_t now = now_ns();
    bool more = now < end && next_sequence < SEQUENCES;
    while (more && next_sequence - finished_below < (uint32_t)in_flight) publish_next(min_bytes, max_bytes);
    busy_ns += now_ns() - now;
    if (!more && finished_below == next_sequence) break;
    if (turn(10)) moved = now_ns();
    else if (now_ns() - moved > STALL_NS) { note("no delivery for 5 s"); break; }
  }
  end_phase("burst", start);
}

/* ---- the HTTP API ---------------------------------------------------------------------------------------------- */

static struct {
  int min_bytes, max_bytes, batch, waiting;
  uint64_t end;                    /* no new requests from here on; 0: none by themselves */
} api;

static connection *dial_api(void) {
  connection *c = calloc(1, sizeof *c);
  c->role = API;
  if (!options.api_publish || !connect_socket(c)) { note("no HTTP API to connect to"); free(c); return NULL; }
  c->state = READY;
  open_apis++;
  return c;
}

/* Sends a request with the publications that come next. */
static void post(connection *c) {
  static char body[1u << 20], request[(1u << 20) + 1024];
  size_t n = 0, most = sizeof body - WRITE_BYTES;
  uint64_t now = now_ns();
  if (api.batch > 1) n = (size_t)sprintf(body, "{\"commands\":[");
  for (int i = 0; i < api.batch && n < most; i++) {
    uint32_t sequence = begin_publication(c->room, now);
    if (api.batch > 1) n += (size_t)sprintf(body + n, "%s{\"publish\":", i ? "," : "");
    n += expand(body + n, options.api_publish, c, sequence, payload_bytes_of(sequence, api.min_bytes, api.max_bytes));
    if (api.batch > 1) body[n++] = '}';
  }
  if (api.batch > 1) n += (size_t)sprintf(body + n, "]}");
  int head = sprintf(request, "POST /api/%s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n", api.batch > 1 ? "batch" : "publish", options.host, options.port,
                     options.api_header ? options.api_header : "X-None: 1", n);
  memcpy(request + head, body, n);
  c->at = now;
  api.waiting++;
  put(c, (const uint8_t *)request, (size_t)head + n);
}

static void on_api_answer(connection *c, uint64_t now) {
  api.waiting--;
  answered_requests++;
  if (timing_requests) record(now - c->at);
  if (now < api.end && next_sequence + (uint32_t)api.batch < SEQUENCES) post(c);
}

static void run_api(int connections, double seconds, int min_bytes, int max_bytes, int batch) {
  connection *clients[64];
  begin_phase();
  timing_requests = true;
  uint64_t start = now_ns(), moved = start;
  api.min_bytes = min_bytes, api.max_bytes = max_bytes, api.batch = batch;
  api.waiting = 0, api.end = start + (uint64_t)(seconds * 1e9);
  for (int i = 0; i < connections; i++)
    if ((clients[i] = dial_api())) post(clients[i]);
  while (open_apis && (api.waiting || finished_below < next_sequence)) {
    if (turn(10)) moved = now_ns();
    else if (now_ns() - moved > STALL_NS) { note("no answer for 5 s"); break; }
  }
  end_phase("api", start);
  for (int i = 0; i < connections; i++)
    if (clients[i]) drop(clients[i]);
}

/* ---- coming back ----------------------------------------------------------------------------------------------- */

static void report_subscribers(const char *command, uint64_t start) {
  printf("{\"command\":\"%s\",\"seconds\":%.4f,\"subscribers\":%d,"
         "\"lost\":%d,\"errors\":%llu,\"trouble\":\"%s\"}\n",
         command, (double)(now_ns() - start) / 1e9, ready_subscribers, lost, (unsigned long long)errors, trouble);
}

static void run_break(void) {
  uint64_t start = now_ns();
  leaving = true;
  for (size_t i = 0; i < subscriber_count; i++) drop(subscribers[i]);
  leaving = false;
  report_subscribers("break", start);
}

static void run_closed(double seconds) {
  uint64_t start = now_ns();
  leaving = true;
  while (ready_subscribers && (double)(now_ns() - start) / 1e9 < seconds) turn(20);
  leaving = false;
  trouble[0] = 0; /* the close that was waited for */
  if (ready_subscribers) { errors++; note("%d connections were not closed", ready_subscribers); }
  report_subscribers("closed", start);
}

static void come_back(connection *c) {
  c->have = 0;
  c->is_back = c->is_recovered = false;
  if (!dial(c)) { storm.retries++; c->at = now_ns() + RETRY_NS; }
}

static void run_storm(int before, int during, int every_ms, int min_bytes, int max_bytes) {
  int total = before + during;
  connection *client = NULL;
  begin_phase();
  memset(&storm, 0, sizeof storm);
  api.min_bytes = min_bytes, api.max_bytes = max_bytes, api.batch = 1, api.waiting = 0, api.end = 0;
  if (total <= STORM_PUBLICATIONS && (client = dial_api())) {
    while (open_apis && next_sequence < (uint32_t)before) {
      if (!api.waiting) post(client);
      turn(10);
    }
    while (open_apis && api.waiting) turn(10);
  } else note("a storm has 1 to %d publications, and an HTTP API", STORM_PUBLICATIONS);
  storm.on = true;
  storm.full = total == 64 ? ~0ull : (1ull << total) - 1;
  busy_ns = deliveries = 0;
  uint64_t start = storm.start = now_ns(), moved = start, looked = start;
  for (size_t i = 0; client && i < subscriber_count; i++) {
    uint64_t dialling = now_ns();
    come_back(subscribers[i]);
    busy_ns += now_ns() - dialling;
    if (i % 16 == 15) turn(0);
  }
  while (client && storm.done < (int)subscriber_count) {
    uint64_t now = now_ns();
    bool is_due = now >= start + (next_sequence - (uint32_t)before) * (uint64_t)every_ms * 1000000ull;
    if (!api.waiting && next_sequence < (uint32_t)total && is_due) post(client);
    if (now - looked > RETRY_NS / 10) {
      looked = now;
      for (size_t i = 0; i < subscriber_count; i++)
        if (subscribers[i]->state == CLOSED && subscribers[i]->at <= now) come_back(subscribers[i]);
    }
    if (turn(5)) moved = now_ns();
    else if (now - moved > OPEN_STALL_NS) { note("nothing for 20 s"); break; }
  }
  double seconds = (double)(now_ns() - start) / 1e9;
  storm.on = spinning = false;
  errors += storm.disorder;
  if (storm.disorder) note("%llu recovered publications were out of order", (unsigned long long)storm.disorder);
  printf("{\"command\":\"storm\",\"seconds\":%.4f,\"subscribers\":%d,\"incomplete\":%d,\"recovered\":%d,"
         "\"unrecovered\":%d,\"published\":%u,\"deliveries\":%llu,\"retries\":%d,\"p50_ms\":%.1f,\"p99_ms\":%.1f,"
         "\"max_ms\":%.1f,\"lost\":%d,\"errors\":%llu,\"generator_cpu\":%.4f,\"trouble\":\"%s\"}\n",
         seconds, ready_subscribers, (int)subscriber_count - storm.done, storm.recovered, storm.unrecovered,
         next_sequence, (unsigned long long)deliveries, storm.retries, quantile_ms(.5), quantile_ms(.99),
         (double)slowest / 1e6, lost, (unsigned long long)errors, (double)busy_ns / 1e9 / seconds, trouble);
  if (client) drop(client);
}

static void settle(int milliseconds) {
  uint64_t end = now_ns() + (uint64_t)milliseconds * 1000000ull;
  while (now_ns() < end) turn(20);
  printf("{\"command\":\"settle\",\"subscribers\":%d,\"lost\":%d,\"errors\":%llu,\"trouble\":\"%s\"}\n",
         ready_subscribers, lost, (unsigned long long)errors, trouble);
}

/* ---- arguments and commands ------------------------------------------------------------------------------------ */

static void read_frames(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) { perror(path); exit(2); }
  char *line = NULL;
  size_t capacity = 0;
  ssize_t n;
  while ((n = getline(&line, &capacity, file)) > 0) {
    if (line[n - 1] == '\n') line[n - 1] = 0;
    for (char *p = line; *p; p++)
      if (*p == '\t') *p = '\n';
    options.frames = realloc(options.frames, (options.frame_count + 1) * sizeof *options.frames);
    options.frames[options.frame_count++] = strdup(line);
  }
  free(line);
  fclose(file);
}

static void read_arguments(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--heartbeats")) { options.heartbeats = true; continue; }
    if (!strcmp(name, "--spin")) { options.spin = true; continue; }
    if (i + 1 == argc) { fprintf(stderr, "%s needs a value\n", name); exit(2); }
    i++;
    if (!strcmp(name, "--host")) options.host = argv[i];
    else if (!strcmp(name, "--port")) options.port = atoi(argv[i]);
    else if (!strcmp(name, "--subscribe-path")) options.subscribe_path = argv[i];
    else if (!strcmp(name, "--publish-path")) options.publish_path = argv[i];
    else if (!strcmp(name, "--frames")) read_frames(argv[i]);
    else if (!strcmp(name, "--ack")) options.ack = argv[i];
    else if (!strcmp(name, "--publication")) options.publication = argv[i];
    else if (!strcmp(name, "--history")) options.history = argv[i];
    else if (!strcmp(name, "--api-header")) options.api_header = argv[i];
    else if (!strcmp(name, "--api-publish")) options.api_publish = argv[i];
    else if (!strcmp(name, "--rooms")) options.rooms = atoi(argv[i]);
    else if (!strcmp(name, "--in-flight")) options.in_flight = atoi(argv[i]);
    else { fprintf(stderr, "unknown argument %s\n", name); exit(2); }
  }
}

static bool obey(const char *line) {
  char command[32] = "";
  double a = 0, b = 0;
  int c = 0, d = 0, e = 0;
  int given = sscanf(line, "%31s %lf %lf %d %d %d", command, &a, &b, &c, &d, &e);
  bool sized = given >= 5 && c > 0 && c <= d && d < (int)WRITE_BYTES / 2 && publisher_count + subscriber_count > 0;
  if (!strcmp(command, "quit")) return false;
  if (!strcmp(command, "open")) open_connections(command, SUBSCRIBER, (int)a);
  else if (!strcmp(command, "publishers")) open_connections(command, PUBLISHER, (int)a);
  else if (!strcmp(command, "settle")) settle((int)a);
  else if (!strcmp(command, "break")) run_break();
  else if (!strcmp(command, "closed")) run_closed(a);
  else if (!strcmp(command, "rate") && sized && a > 0) run_rate(a, b, c, d);
  else if (!strcmp(command, "load") && sized && a > 0) run_load(a, b, c, d);
  else if (!strcmp(command, "burst") && sized && a >= 1) run_burst((int)a, b, c, d);
  else if (!strcmp(command, "api") && sized && a >= 1 && a <= 64 && e > 0) run_api((int)a, b, c, d, e);
  else if (!strcmp(command, "storm") && given == 6 && a + b >= 1 && d > 0 && d <= e) run_storm((int)a, (int)b, c, d, e);
  else printf("{\"command\":\"%s\",\"trouble\":\"unknown command or bad arguments\",\"errors\":1}\n", command);
  return true;
}

int main(int argc, char **argv) {
  read_arguments(argc, argv);
  if (options.rooms < 1 || options.rooms > ROOMS) { fprintf(stderr, "1 to %d rooms\n", ROOMS); return 2; }
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  poller = epoll_create1(0);
  setvbuf(stdout, NULL, _IOLBF, 0);
  char line[256];
  while (fgets(line, sizeof line, stdin) && obey(line)) {}
  return 0;
}
