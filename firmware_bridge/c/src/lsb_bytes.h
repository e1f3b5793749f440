/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes compared, copied and read as numbers, without the C library's headers. */
#ifndef LSB_BYTES_H
#define LSB_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void lsb_copy(void *to, const void *from, size_t size)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    for (size_t i = 0; i < size; i++) {
        target[i] = source[i];
    }
}

static inline bool lsb_same_bytes(const void *one, const void *other, size_t size)
{
    const uint8_t *left = one, *right = other;
    uint8_t differs = 0;
    for (size_t i = 0; i < size; i++) {
        differs = (uint8_t)(differs | (left[i] ^ right[i]));
    }
    return differs == 0;
}

static inline bool lsb_same_word(const char *one, const char *other)
{
    while (*one != '\0' && *one == *other) {
        one++;
        other++;
    }
    return *one == *other;
}

static inline uint64_t lsb_little_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    while (count > 0) {
        count--;
        value = value << 8 | bytes[count];
    }
    return value;
}

#endif
