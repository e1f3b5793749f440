/* SPDX-License-Identifier: Apache-2.0 */
/* What files alone cannot show: storage that fails or changes at every single read, crypto that fails
 * at every call, and misuse.
 *
 *   lsb-check FILE...      good vectors of the format, sealed by its key "factory"
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lsb_sodium.h"

#define EXPECT(holds) expect((holds), #holds, __LINE__)

/* RFC 8032, sec. 7.1, test 1: known to everybody, trusted by nobody. */
static const uint8_t factory[1][LSB_KEY_BYTES] = {
    {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
     0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a}};

enum {
    NEVER = -1,
    ROOM = 65536,
    READS = 60, /* how many are tried where there are more: with a buffer of one byte, 14,000 */
    BITS = 40
};

/* A file in memory that fails, or has other bytes, from one read on. */
struct flaky {
    uint8_t *bytes;
    uint64_t size;
    long reads, fail_at, change_at;
    uint64_t changed; /* offset of the bit that differs then */
};

/* Calls of the crypto functions, one of which fails. */
struct counted {
    long calls, fail_at;
};

static const char *file_name = "";
static long checks;
static struct lsb_bundle reference, opened;
static uint8_t room[ROOM];

static void expect(bool holds, const char *what, int line)
{
    checks++;
    if (!holds) {
        fprintf(stderr, "lsb_check.c:%d: %s: not so: %s\n", line, file_name, what);
        exit(1);
    }
}

static int read_flaky(void *context, uint64_t offset, void *to, size_t size)
{
    struct flaky *flaky = context;
    EXPECT(size > 0 && offset <= flaky->size && size <= flaky->size - offset);
    const long number = flaky->reads++;
    if (number == flaky->fail_at) {
        return -1;
    }
    if (number == flaky->change_at) {
        flaky->bytes[flaky->changed] ^= 1;
    }
    memcpy(to, flaky->bytes + offset, size);
    return 0;
}

static int fails(void *context)
{
    struct counted *counted = context;
    return counted->calls++ == counted->fail_at ? -1 : 0;
}

static int start(void *context, struct lsb_sha256 *state)
{
    return fails(context) != 0 ? -1 : lsb_sodium.sha256_start(NULL, state);
}

static int add(void *context, struct lsb_sha256 *state, const uint8_t *data, size_t size)
{
    return fails(context) != 0 ? -1 : lsb_sodium.sha256_add(NULL, state, data, size);
}

static int finish(void *context, struct lsb_sha256 *state, uint8_t hash[LSB_HASH_BYTES])
{
    return fails(context) != 0 ? -1 : lsb_sodium.sha256_finish(NULL, state, hash);
}

static bool holds(void *context, const uint8_t key[LSB_KEY_BYTES],
                  const uint8_t signature[LSB_SIGNATURE_BYTES], struct lsb_message *message)
{
    return fails(context) == 0 && lsb_sodium.ed25519_holds(NULL, key, signature, message);
}

static bool holds_unread(void *context, const uint8_t key[LSB_KEY_BYTES],
                         const uint8_t signature[LSB_SIGNATURE_BYTES], struct lsb_message *message)
{
    (void)context, (void)key, (void)signature, (void)message;
    return true;
}

static enum lsb_result open_with(struct lsb_bundle *bundle, struct flaky *flaky,
                                 const struct lsb_crypto *crypto)
{
    const struct lsb_storage storage = {read_flaky, flaky, flaky->size};
    const struct lsb_device device = {crypto, factory, 1, NULL, 0, {0, 1, 0}};
    flaky->reads = 0;
    const enum lsb_result result = lsb_open(bundle, &storage, &device);
    bundle->device = NULL; /* it was on this function's stack */
    return result;
}

/* All that an open bundle says. */
static bool says_the_same(const struct lsb_bundle *one, const struct lsb_bundle *other)
{
    return memcmp(one->hash, other->hash, sizeof one->hash) == 0 &&
           one->security_counter == other->security_counter &&
           strcmp(one->target, other->target) == 0 &&
           memcmp(one->minimum_runtime, other->minimum_runtime, sizeof one->minimum_runtime) == 0 &&
           one->present == other->present && one->part_count == other->part_count &&
           one->model_count == other->model_count &&
           memcmp(one->parts, other->parts, sizeof one->parts) == 0 &&
           memcmp(one->models, other->models, sizeof one->models) == 0;
}

static long stride_of(long count, long tried)
{
    return count > tried ? count / tried : 1;
}

static void check_reads_that_fail(struct flaky *flaky, long reads)
{
    for (long number = 0; number < reads; number += stride_of(reads, READS)) {
        flaky->fail_at = number;
        EXPECT(open_with(&opened, flaky, &lsb_sodium) == LSB_STORAGE);
        EXPECT(opened.part_count == 0 && lsb_find_part(&opened, "golden.msgpack") == NULL);
    }
    flaky->fail_at = NEVER;
}

/* A bit turns over between two reads. Either that is seen, or nothing that is said rests on it. */
static void check_reads_that_change(struct flaky *flaky, long reads, uint64_t end)
{
    const uint64_t step = (uint64_t)stride_of((long)end, BITS);
    long refused = 0;
    for (long number = 0; number < reads; number += stride_of(reads, READS / 4)) {
        for (uint64_t changed = 0; changed < end; changed += step) {
            flaky->change_at = number;
            flaky->changed = changed;
            const enum lsb_result result = open_with(&opened, flaky, &lsb_sodium);
            flaky->bytes[changed] ^= flaky->reads > number ? 1 : 0;
            EXPECT(result != LSB_OK || says_the_same(&opened, &reference));
            refused += result != LSB_OK ? 1 : 0;
        }
    }
    flaky->change_at = NEVER;
    EXPECT(refused > 0);
}

/* The counter is what a downgrade would lie about: one more only once the signature holds. */
static void check_a_counter_that_changes(struct flaky *flaky, long reads)
{
    static const char word[] = "\"security_counter\":";
    uint64_t at = 128;
    long seen = 0;
    while (memcmp(flaky->bytes + at, word, sizeof word - 1) != 0) {
        at++;
    }
    for (long number = 0; number < reads; number += stride_of(reads, READS)) {
        flaky->change_at = number;
        flaky->changed = at + sizeof word - 1;
        const enum lsb_result result = open_with(&opened, flaky, &lsb_sodium);
        flaky->bytes[flaky->changed] ^= 1;
        EXPECT(result != LSB_OK || opened.security_counter == reference.security_counter);
        seen += result == LSB_CHANGED ? 1 : 0;
    }
    flaky->change_at = NEVER;
    EXPECT(seen > 0);
}

static void check_crypto_that_fails(struct flaky *flaky)
{
    struct counted counted = {0, NEVER};
    const struct lsb_crypto crypto = {&counted, start, add, finish, holds};
    const struct lsb_crypto unread = {&counted, start, add, finish, holds_unread};
    EXPECT(open_with(&opened, flaky, &crypto) == LSB_OK);
    const long calls = counted.calls;
    for (long number = 0; number < calls; number += stride_of(calls, READS)) {
        counted.calls = 0;
        counted.fail_at = number;
        const enum lsb_result result = open_with(&opened, flaky, &crypto);
        EXPECT(result == LSB_CRYPTO || result == LSB_SIGNATURE);
    }
    counted.fail_at = NEVER;
    EXPECT(open_with(&opened, flaky, &unread) == LSB_SIGNATURE);
}

static void check_parts(struct flaky *flaky)
{
    static const struct lsb_device device = {&lsb_sodium, factory, 1, NULL, 0, {0, 1, 0}};
    opened = reference;
    opened.device = &device;
    for (size_t i = 0; i < opened.part_count; i++) {
        const struct lsb_part *part = &opened.parts[i];
        const size_t size = (size_t)part->size;
        if (!part->present) {
            EXPECT(lsb_find_part(&opened, part->name) == NULL);
            EXPECT(lsb_load_part(&opened, part, room, ROOM) == LSB_NO_PART);
            EXPECT(lsb_check_part(&opened, part) == LSB_NO_PART);
            EXPECT(lsb_read_part(&opened, part, 0, room, 0) == LSB_NO_PART);
            continue;
        }
        EXPECT(lsb_find_part(&opened, part->name) == part && part->offset % 4096 == 0);
        EXPECT(lsb_load_part(&opened, part, room, size) == LSB_OK);
        EXPECT(memcmp(room, flaky->bytes + part->offset, size) == 0);
        EXPECT(size == 0 || lsb_load_part(&opened, part, room, size - 1) == LSB_OUT_OF_PART);
        EXPECT(lsb_read_part(&opened, part, size, room, 0) == LSB_OK);
        EXPECT(lsb_read_part(&opened, part, size, room, 1) == LSB_OUT_OF_PART);
        EXPECT(lsb_read_part(&opened, part, UINT64_MAX, room, 2) == LSB_OUT_OF_PART);
        if (size > 0) {
            EXPECT(lsb_read_part(&opened, part, size - 1, room, 1) == LSB_OK);
            EXPECT(room[0] == flaky->bytes[part->offset + size - 1]);
            flaky->fail_at = flaky->reads;
            EXPECT(lsb_read_part(&opened, part, 0, room, 1) == LSB_STORAGE);
            flaky->bytes[part->offset + size - 1] ^= 1;
            EXPECT(lsb_load_part(&opened, part, room, size) == LSB_PART_HASH);
            EXPECT(lsb_check_part(&opened, part) == LSB_PART_HASH);
            flaky->bytes[part->offset + size - 1] ^= 1;
        }
    }
    EXPECT(lsb_find_part(&opened, "nowhere") == NULL && lsb_find_part(&opened, "") == NULL);
}

static void check_texts(void)
{
    char product[LSB_TEXT_BYTES], version[LSB_TEXT_BYTES];
    EXPECT(lsb_read_texts(&opened, product, sizeof product, version, sizeof version) == LSB_OK);
    EXPECT(strcmp(product, "led-joint") == 0 && strcmp(version, "1.0.0") == 0);
    for (size_t size = 1; size < 12; size++) {
        memset(product, '?', sizeof product);
        EXPECT(lsb_read_texts(&opened, product, size, NULL, 0) == LSB_OK);
        EXPECT(strlen(product) == (size - 1 < 9 ? size - 1 : 9) && product[size] == '?');
    }
    EXPECT(lsb_is_for(&opened, "any") && lsb_is_for(&opened, "whatever"));
    strcpy(opened.target, "camera");
    EXPECT(lsb_is_for(&opened, "camera") && !lsb_is_for(&opened, "camera2"));
    EXPECT(!lsb_is_for(&opened, "any") && !lsb_is_for(&opened, ""));
}

static void check_file(uint8_t *bytes, uint64_t size)
{
    struct flaky flaky = {bytes, size, 0, NEVER, NEVER, 0};
    const enum lsb_result result = open_with(&reference, &flaky, &lsb_sodium);
    const long reads = flaky.reads;
    if (LSB_MAX_PARTS < 4 && strstr(file_name, "minimal") == NULL) {
        EXPECT(result == LSB_TOO_LARGE);
        return;
    }
    EXPECT(result == LSB_OK && reads > 0);
    check_reads_that_fail(&flaky, reads);
    check_reads_that_change(&flaky, reads, size);
    check_a_counter_that_changes(&flaky, reads);
    check_crypto_that_fails(&flaky);
    reference.storage.context = &flaky;
    check_parts(&flaky);
    check_texts();
}

static void check_words(void)
{
    for (int result = LSB_OK; result <= LSB_OUT_OF_PART; result++) {
        EXPECT(strlen(lsb_tell((enum lsb_result)result)) > 10);
        EXPECT((strlen(lsb_class((enum lsb_result)result)) > 0) == (result != LSB_OK));
    }
    EXPECT(strcmp(lsb_class((enum lsb_result)999), "caller") == 0);
}

int main(int count, char **paths)
{
    EXPECT(count > 1 && sodium_init() >= 0);
    for (int i = 1; i < count; i++) {
        file_name = paths[i];
        FILE *file = fopen(paths[i], "rb");
        EXPECT(file != NULL);
        const size_t size = fread(room, 1, ROOM, file);
        fclose(file);
        uint8_t *bytes = malloc(size);
        EXPECT(bytes != NULL && size > 128 && size < ROOM);
        memcpy(bytes, room, size);
        check_file(bytes, size);
        free(bytes);
    }
    check_words();
    printf("%ld checks held\n", checks);
    return 0;
}
