/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles changed at random whose seal is taken for good, so that what lies behind it is reached.
 *
 *   lsb-fuzz SEED COUNT FILE...
 *
 * The sanitizers watch for memory, the storage for reads beyond the file, and this for bundles that were
 * opened although their parts do not lie inside it. Prints how often each result came.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lsb_sodium.h"

enum { HEADER = 128, PAGE = 4096, MAX_FILES = 8, NEVER = -1 };

struct bytes {
    uint8_t *at;
    size_t size;
};

struct flaky {
    struct bytes file;
    long reads, fail_at, change_at;
};

static uint64_t state;
static struct lsb_bundle bundle;
static uint8_t keys[1][LSB_KEY_BYTES];

/* xorshift64* (Vigna 2016) */
static uint64_t draw(uint64_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1DU >> 11) % below;
}

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "lsb_fuzz.c: %s\n", what);
        abort();
    }
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

static void mend_crc(uint8_t *header)
{
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < 124; i++) {
        crc ^= header[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1U)));
        }
    }
    put32(header + 124, ~crc);
}

/* Takes `gone` bytes of the manifest out and puts `fill` bytes in; the parts move with its end. */
static struct bytes splice(struct bytes file, size_t at, size_t gone, const uint8_t *fill,
                           size_t filled)
{
    const size_t old = get32(file.at + 24), size = old - gone + filled;
    const size_t body = (HEADER + old + PAGE - 1) / PAGE * PAGE;
    const size_t new_body = (HEADER + size + PAGE - 1) / PAGE * PAGE;
    struct bytes made = {NULL, new_body + (file.size - body)};
    made.at = calloc(1, made.size);
    require(made.at != NULL, "no memory");
    memcpy(made.at, file.at, HEADER + at);
    memcpy(made.at + HEADER + at, fill, filled);
    memcpy(made.at + HEADER + at + filled, file.at + HEADER + at + gone, old - at - gone);
    memcpy(made.at + new_body, file.at + body, file.size - body);
    put32(made.at + 24, (uint32_t)size);
    free(file.at);
    return made;
}

static struct bytes change_manifest(struct bytes file)
{
    static const char *const tokens[] = {
        "{",    "}",     "[",      "]",    ",",         ":",          "\"",        "\\u0061",
        "null", "true",  "-1",     "0",    "1e9",       "1.5",        "\\",        "\"a\"",
        " ",    "\xff",  "\xc3",   "é",    "\\ud83d",   "{\"a\":1}",  "[[[[[[[[",  "00",
        "\n",   "\"\":", "\"x\":", "4096", "\"parts\"", "\"format\"", "onnxruntime"};
    const size_t size = get32(file.at + 24);
    const size_t at = (size_t)draw(size + 1);
    const size_t left = size - at;
    const char *token = tokens[draw(sizeof tokens / sizeof tokens[0])];
    const size_t from = (size_t)draw(size);
    const size_t span = (size_t)draw(size - from < 80 ? size - from + 1 : 80);
    uint8_t copy[80];
    memcpy(copy, file.at + HEADER + from, span);
    switch (draw(4)) {
    case 0: /* a bit */
        file.at[HEADER + draw(size)] ^= (uint8_t)(1U << draw(8));
        return file;
    case 1: /* a token, in the place of as many bytes or between */
        return splice(file, at, (size_t)draw(2) * (strlen(token) < left ? strlen(token) : left),
                      (const uint8_t *)token, strlen(token));
    case 2: /* a stretch of it once more */
        return splice(file, at, 0, copy, span);
    default: /* a stretch less; never all of it */
        return span < size ? splice(file, from, span, copy, 0) : file;
    }
}

static struct bytes change_file(struct bytes file)
{
    switch (draw(8)) {
    case 0:
        file.at[96 + draw(8)] ^= (uint8_t)(1U << draw(8));
        return file;
    case 1:
        file.at[draw(HEADER)] ^= (uint8_t)(1U << draw(8));
        return file;
    case 2:
        file.at[draw(file.size)] ^= (uint8_t)(1U << draw(8));
        return file;
    case 3:
        file.size = (size_t)draw(file.size + 1);
        return file;
    default:
        return file;
    }
}

static struct bytes make_mutant(struct bytes good)
{
    struct bytes file = {malloc(good.size), good.size};
    require(file.at != NULL, "no memory");
    memcpy(file.at, good.at, good.size);
    for (uint64_t left = draw(4); left > 0; left--) {
        file = change_manifest(file);
    }
    file = change_file(file);
    if (file.size >= HEADER && draw(16) > 0) {
        mend_crc(file.at);
    }
    return file;
}

static int read_flaky(void *context, uint64_t offset, void *to, size_t size)
{
    struct flaky *flaky = context;
    require(size > 0 && offset <= flaky->file.size && size <= flaky->file.size - offset,
            "read beyond the file");
    const long number = flaky->reads++;
    if (number == flaky->fail_at) {
        return 1;
    }
    if (number == flaky->change_at) {
        flaky->file.at[draw(flaky->file.size)] ^= (uint8_t)(1U << draw(8));
    }
    memcpy(to, flaky->file.at + offset, size);
    return 0;
}

static bool always_holds(void *context, const uint8_t key[LSB_KEY_BYTES],
                         const uint8_t signature[LSB_SIGNATURE_BYTES], struct lsb_message *message)
{
    const uint8_t *piece;
    (void)context, (void)key, (void)signature;
    while (lsb_next_piece(message, &piece) > 0) {
    }
    return true;
}

static void check_opened(const struct flaky *flaky)
{
    uint64_t end = HEADER + (uint64_t)bundle.manifest_size;
    char product[9], version[LSB_TEXT_BYTES];
    require(bundle.part_count >= 1 && bundle.part_count <= LSB_MAX_PARTS, "parts");
    require(bundle.model_count >= 1 && bundle.model_count <= LSB_MAX_MODELS, "models");
    for (size_t i = 0; i < bundle.part_count; i++) {
        const struct lsb_part *part = &bundle.parts[i];
        require(strlen(part->name) >= 1 && strlen(part->name) <= 64, "a name");
        if (part->present) {
            require(part->offset >= end && part->offset % PAGE == 0, "parts overlap");
            end = part->offset + part->size;
            require(lsb_find_part(&bundle, part->name) == part, "a part is not found");
        }
    }
    require(end == flaky->file.size, "parts beyond the file");
    (void)lsb_read_texts(&bundle, product, sizeof product, version, sizeof version);
}

static enum lsb_result judge(struct bytes file)
{
    struct lsb_crypto crypto = lsb_sodium;
    struct flaky flaky = {file, 0, NEVER, NEVER};
    crypto.ed25519_holds = always_holds;
    const struct lsb_device device = {&crypto, (const uint8_t(*)[LSB_KEY_BYTES])keys, 1, NULL, 0,
                                      {0, 1, 0}};
    const struct lsb_storage storage = {read_flaky, &flaky, file.size};
    const uint64_t manner = draw(8);
    flaky.fail_at = manner == 0 ? (long)draw(60) : NEVER;
    flaky.change_at = manner == 1 ? (long)draw(60) : NEVER;
    const enum lsb_result result = lsb_open(&bundle, &storage, &device);
    if (result == LSB_OK) {
        check_opened(&flaky);
    }
    return result;
}

static struct bytes load(const char *path)
{
    struct bytes file = {malloc(1 << 20), 0};
    FILE *from = fopen(path, "rb");
    require(from != NULL && file.at != NULL, path);
    file.size = fread(file.at, 1, 1 << 20, from);
    fclose(from);
    require(file.size > HEADER && file.size < 1 << 20, path);
    return file;
}

int main(int count, char **words)
{
    static const uint8_t factory[LSB_KEY_BYTES] = {
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe,
        0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6,
        0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    struct bytes good[MAX_FILES];
    long found[LSB_OUT_OF_PART + 1] = {0};
    const int files = count - 3;
    require(files >= 1 && files <= MAX_FILES && sodium_init() >= 0, "SEED COUNT FILE...");
    memcpy(keys[0], factory, sizeof factory);
    state = strtoull(words[1], NULL, 10) * 2 + 1;
    for (int i = 0; i < files; i++) {
        good[i] = load(words[3 + i]);
    }
    for (long left = strtol(words[2], NULL, 10); left > 0; left--) {
        struct bytes mutant = make_mutant(good[draw((uint64_t)files)]);
        found[judge(mutant)]++;
        free(mutant.at);
    }
    for (int result = 0; result <= LSB_OUT_OF_PART; result++) {
        if (found[result] > 0) {
            printf("%9ld  %-12s %s\n", found[result], lsb_class((enum lsb_result)result),
                   lsb_tell((enum lsb_result)result));
        }
    }
    for (int i = 0; i < files; i++) {
        free(good[i].at);
    }
    return 0;
}
