/* Finds the examples of a batch in mapped shards, and copies them into one block.

Rows are numbered through all shards of a split. Everything is arithmetic on addresses; the caller
has checked the shards' offsets, and allocated what is written here. */

#include <stdint.h>
#include <string.h>

enum { LINE = 64, AHEAD = 8 };

uint32_t abi(void) { return ABI; }

typedef struct {
    int64_t shards;
    const int64_t *ends;    /* rows of all shards up to this one, and with it */
    const int64_t *values;  /* where a shard's features begin; 0 where it is not mapped */
    const int64_t *offsets; /* where its int32 offsets begin; NULL if all have one length */
    int64_t length;         /* that length in frames */
    int64_t frame;          /* bytes */
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

/* Where each row's features begin, and their lengths in frames. The greatest length; -1 minus its
number where a shard is not mapped; -1 minus the number of shards where a row is in none. */
int64_t locate(const Shards *all, const int64_t *rows, int64_t n, int64_t *from, int64_t *lengths) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || !all->shards || rows[i] >= all->ends[all->shards - 1])
            return -1 - all->shards;
        int64_t shard = shard_of(all->ends, all->shards, rows[i]);
        int64_t row = rows[i] - (shard ? all->ends[shard - 1] : 0);
        if (!all->values[shard]) return -1 - shard;
        int64_t first = row * all->length;
        lengths[i] = all->length;
        if (all->offsets) {
            const int32_t *offset = (const int32_t *)all->offsets[shard] + row;
            first = offset[0];
            lengths[i] = offset[1] - offset[0];
        }
        from[i] = all->values[shard] + first * all->frame;
        if (lengths[i] > most) most = lengths[i];
    }
    return most;
}

/* The 8 bytes of each row in every column of numbers, column by column; the shards are mapped.
``columns`` holds where each begins in every shard. */
void pick(const Shards *all, const int64_t *columns, int64_t count, const int64_t *rows, int64_t n,
          int64_t *out) {
    for (int64_t i = 0; i < n; i++) {
        int64_t shard = shard_of(all->ends, all->shards, rows[i]);
        int64_t row = rows[i] - (shard ? all->ends[shard - 1] : 0);
        for (int64_t k = 0; k < count; k++)
            memcpy(out + k * n + i, (const int64_t *)columns[k * all->shards + shard] + row, 8);
    }
}

/* Runs of bytes to the begins of consecutive rows, zeros behind each. While one is copied the next
one's first lines are fetched: the processor foresees the rest, but not where that one begins. */
void copy(const int64_t *from, const int64_t *lengths, int64_t frame, int64_t n, char *out,
          int64_t row) {
    for (int64_t i = 0; i < n; i++) {
        if (i + 1 < n) {
            int64_t size = lengths[i + 1] * frame;
            for (int64_t at = 0; at < AHEAD * LINE && at < size; at += LINE)
                __builtin_prefetch((const char *)from[i + 1] + at);
        }
        int64_t size = lengths[i] * frame;
        memcpy(out, (const char *)from[i], (size_t)size);
        memset(out + size, 0, (size_t)(row - size));
        out += row;
    }
}
