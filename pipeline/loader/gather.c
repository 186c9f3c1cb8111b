/* Finds the examples of a batch in mapped shards, and copies them into one block.

Rows are numbered through all shards of a split. Everything is arithmetic on addresses; the caller
has checked the shards' offsets, and allocated what is written here. */

#include <pthread.h>
#include <stdint.h>
#include <string.h>

enum { LINE = 64, AHEAD = 8, MOST_THREADS = 16, PER_THREAD = 1 << 19 };
enum { LANES = 8, OWN_CACHE = 1 << 20, FRESH = 1 << 25 };

uint32_t abi(void) { return ABI; }

typedef struct {
    int64_t shards;
    const int64_t *ends;    /* rows of all shards up to this one, and with it */
    const int64_t *values;  /* where a shard's features begin; 0 where it is not mapped */
    const int64_t *offsets; /* where its int32 offsets begin; NULL if all have one length */
    int64_t length;         /* that length in frames */
    int64_t frame;          /* bytes */
    int64_t columns;        /* of numbers, 8 bytes each */
    const int64_t *numbers; /* where each column begins in every shard, column by column */
} Shards;

/* The shard that a row lies in: the first that ends behind it. */
static int64_t shard_of(const int64_t *ends, int64_t shards, int64_t row) {
    int64_t low = 0, high = shards - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (row < ends[middle]) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* Where each row's features begin; and lines of n numbers: their lengths in frames, and the values of
every column. The greatest length; -1 minus its number where a shard is not mapped; -1 minus the
number of shards where a row is in none. */
int64_t locate(const Shards *all, const int64_t *rows, int64_t n, int64_t *from, int64_t *out) {
    int64_t most = 0, shards = all->shards;
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || !shards || rows[i] >= all->ends[shards - 1]) return -1 - shards;
        int64_t shard = shard_of(all->ends, shards, rows[i]);
        int64_t row = rows[i] - (shard ? all->ends[shard - 1] : 0);
        if (!all->values[shard]) return -1 - shard;
        int64_t first = row * all->length, length = all->length;
        if (all->offsets) {
            const int32_t *offset = (const int32_t *)all->offsets[shard] + row;
            first = offset[0];
            length = offset[1] - offset[0];
        }
        from[i] = all->values[shard] + first * all->frame;
        out[i] = length;
        for (int64_t k = 0; k < all->columns; k++)
            out[(1 + k) * n + i] = ((const int64_t *)all->numbers[k * shards + shard])[row];
        if (length > most) most = length;
    }
    return most;
}

typedef struct {
    const int64_t *from, *lengths;
    int64_t frame, n;
    char *out;
    int64_t row;
    int past_caches;
} Part;

/* One row after the other, zeros behind each. While one is copied the next one's first lines are
fetched: the processor foresees the rest, but not where that one begins. */
static void copy_rows(const Part *p) {
    for (int64_t i = 0; i < p->n; i++) {
        if (i + 1 < p->n) {
            int64_t size = p->lengths[i + 1] * p->frame;
            for (int64_t at = 0; at < AHEAD * LINE && at < size; at += LINE)
                __builtin_prefetch((const char *)p->from[i + 1] + at);
        }
        int64_t size = p->lengths[i] * p->frame;
        char *out = p->out + i * p->row;
        memcpy(out, (const char *)p->from[i], (size_t)size);
        memset(out + size, 0, (size_t)(p->row - size));
    }
}

#ifdef __SSE2__
#include <emmintrin.h>

/* A row under way: so many whole lines of it are left, and so many bytes behind them. */
typedef struct {
    const char *in;
    char *out;
    int64_t lines, rest, zeros;
} Lane;

static int64_t to_line(const char *out, int64_t most) {
    int64_t bytes = -(intptr_t)out & (LINE - 1);
    return bytes < most ? bytes : most;
}

static Lane begin_row(const Part *p, int64_t i) {
    const char *in = (const char *)p->from[i];
    char *out = p->out + i * p->row;
    int64_t size = p->lengths[i] * p->frame, head = to_line(out, size);
    memcpy(out, in, (size_t)head);
    int64_t lines = (size - head) / LINE;
    return (Lane){in + head, out + head, lines, size - head - lines * LINE, p->row - size};
}

static void end_row(const Lane *lane) {
    char *out = lane->out + lane->rest, *end = out + lane->zeros;
    memcpy(lane->out, lane->in, (size_t)lane->rest);
    int64_t head = to_line(out, lane->zeros);
    memset(out, 0, (size_t)head);
    __m128i zero = _mm_setzero_si128();
    for (out += head; end - out >= LINE; out += LINE)
        for (int64_t k = 0; k < LINE; k += 16) _mm_stream_si128((__m128i *)(out + k), zero);
    memset(out, 0, (size_t)(end - out));
}

static void stream_line(const char *from, char *to) {
    const __m128i *in = (const __m128i *)from;
    __m128i *out = (__m128i *)to;
    __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1);
    __m128i c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, a), _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c), _mm_stream_si128(out + 3, d);
}

/* Several rows at a time, line by line in turn, past the caches: memory answers many requests at
once, and what is written there need not be read before. For batches that a core's own cache can't
hold; but not for those so large that the C library asks for new pages each time, which the kernel has
just zeroed in the caches. */
static void stream_rows(const Part *p) {
    Lane lanes[LANES];
    int64_t active = 0, next = 0;
    for (;;) {
        while (active < LANES && next < p->n) lanes[active++] = begin_row(p, next++);
        if (!active) break;
        int64_t lines = lanes[0].lines;
        for (int64_t k = 1; k < active; k++)
            if (lanes[k].lines < lines) lines = lanes[k].lines;
        for (int64_t at = 0; at < lines * LINE; at += LINE)
            for (int64_t k = 0; k < active; k++) stream_line(lanes[k].in + at, lanes[k].out + at);
        for (int64_t k = active - 1; k >= 0; k--) {
            Lane *lane = &lanes[k];
            lane->in += lines * LINE, lane->out += lines * LINE, lane->lines -= lines;
            if (lane->lines) continue;
            end_row(lane);
            *lane = lanes[--active];
        }
    }
    _mm_sfence();
}
#else
static void stream_rows(const Part *p) { copy_rows(p); }
#endif

static void *copy_part(void *argument) {
    const Part *p = argument;
    if (p->past_caches) stream_rows(p);
    else copy_rows(p);
    return NULL;
}

/* n rows, each thread as many of them. Threads end with the call, so a process may fork at any time;
to start one takes as long as to copy 200 kB. */
void copy(const int64_t *from, const int64_t *lengths, int64_t frame, int64_t n, char *out,
          int64_t row, int64_t threads) {
    pthread_t helpers[MOST_THREADS];
    Part parts[MOST_THREADS];
    int past_caches = n * row > OWN_CACHE && n * row < FRESH;
    if (threads > n * row / PER_THREAD) threads = n * row / PER_THREAD;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads < 1) threads = 1;
    for (int64_t t = 0; t < threads; t++) {
        int64_t first = n * t / threads, end = n * (t + 1) / threads;
        parts[t] = (Part){from + first, lengths + first, frame, end - first, out + first * row, row,
                          past_caches};
    }
    int64_t started = 1; /* this thread takes the first part, and those that none can be had for */
    while (started < threads &&
           !pthread_create(&helpers[started], NULL, copy_part, &parts[started]))
        started++;
    copy_part(&parts[0]);
    for (int64_t t = started; t < threads; t++) copy_part(&parts[t]);
    for (int64_t t = 1; t < started; t++) pthread_join(helpers[t], NULL);
}
