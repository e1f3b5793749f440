/* SPDX-License-Identifier: Apache-2.0 */
/* Reads bundles on a desk as firmware would.
 *
 *   lsb-read [--revoked KEYID] FILE KEY     one bundle; 0 taken, 1 refused, 2 could not be read
 *   lsb-read [--revoked KEYID] - KEY        many from standard input, each behind its size (8 bytes,
 *                                           little-endian); an empty line ends what is said of each
 *
 * KEY is a file with the raw public key, 32 bytes:
 * openssl pkey -pubin -in factory.pub -outform DER | tail -c 32 > factory.raw
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lsb_sodium.h"

#ifndef LSB_RUNTIME
#define LSB_RUNTIME {0, 1, 0}
#endif

static uint8_t key[1][LSB_KEY_BYTES];
static uint8_t revoked[1][LSB_KEY_ID_BYTES];
static struct lsb_bundle bundle;

struct memory {
    const uint8_t *bytes;
    uint64_t size;
};

static int read_memory(void *context, uint64_t offset, void *to, size_t size)
{
    const struct memory *memory = context;
    if (offset > memory->size || size > memory->size - offset || size == 0) {
        abort(); /* the reader promised never to ask for that */
    }
    memcpy(to, memory->bytes + offset, size);
    return 0;
}

static void print_hex(const char *field, const uint8_t *bytes, size_t size)
{
    printf("%s ", field);
    for (size_t i = 0; i < size; i++) {
        printf("%02x", bytes[i]);
    }
    printf("\n");
}

/* On one line, whatever the text holds. */
static void print_text(const char *field, const char *text)
{
    printf("%s ", field);
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == '\\') {
            printf("\\x%02x", (unsigned char)*text);
        } else {
            putchar(*text);
        }
    }
    printf("\n");
}

static void print_tables(void)
{
    static const char *const engines[] = {"-", "onnxruntime", "openvino"};
    for (size_t i = 0; i < bundle.part_count; i++) {
        const struct lsb_part *part = &bundle.parts[i];
        printf("part %s %s %s %" PRIu64 " %" PRIu64 "\n", part->name, engines[part->engine],
               part->present ? "present" : "absent", part->offset, part->size);
    }
    for (size_t i = 0; i < bundle.model_count; i++) {
        const struct lsb_model *model = &bundle.models[i];
        printf("model %s %s %s %s %u\n", engines[model->engine], model->precision,
               bundle.parts[model->first_part].name, model->bf16 ? "bf16" : "f32", model->batch);
    }
}

static enum lsb_result print_bundle(void)
{
    char product[LSB_TEXT_BYTES], version[LSB_TEXT_BYTES];
    const enum lsb_result result =
        lsb_read_texts(&bundle, product, sizeof product, version, sizeof version);
    if (result != LSB_OK) {
        return result;
    }
    print_hex("hash", bundle.hash, sizeof bundle.hash);
    print_hex("key", bundle.key, LSB_KEY_BYTES);
    print_text("product", product);
    print_text("version", version);
    printf("security_counter %" PRIu32 "\n", bundle.security_counter);
    printf("target %s\n", bundle.target);
    printf("minimum_runtime %u.%u.%u\n", bundle.minimum_runtime[0], bundle.minimum_runtime[1],
           bundle.minimum_runtime[2]);
    print_tables();
    return LSB_OK;
}

static enum lsb_result judge(const uint8_t *bytes, uint64_t size, size_t revoked_count)
{
    struct memory memory = {bytes, size};
    const struct lsb_storage storage = {read_memory, &memory, size};
    const struct lsb_device device = {&lsb_sodium, (const uint8_t(*)[LSB_KEY_BYTES])key, 1,
                                      (const uint8_t(*)[LSB_KEY_ID_BYTES])revoked, revoked_count,
                                      LSB_RUNTIME};
    enum lsb_result result = lsb_open(&bundle, &storage, &device);
    if (result == LSB_OK) {
        result = print_bundle();
    }
    printf("result %d\nclass %s\ntold %s\n", (int)result, lsb_class(result), lsb_tell(result));
    return result;
}

/* So many bytes of the stream, exactly, in memory of their own; NULL where there are fewer. */
static uint8_t *read_bytes(FILE *from, size_t size)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    if (bytes != NULL && fread(bytes, 1, size, from) == size) {
        return bytes;
    }
    free(bytes);
    return NULL;
}

static int read_many(size_t revoked_count)
{
    uint8_t size_bytes[8];
    while (fread(size_bytes, 1, sizeof size_bytes, stdin) == sizeof size_bytes) {
        uint64_t size = 0;
        for (size_t i = sizeof size_bytes; i > 0; i--) {
            size = size << 8 | size_bytes[i - 1];
        }
        uint8_t *bytes = read_bytes(stdin, (size_t)size);
        if (bytes == NULL) {
            return 2;
        }
        (void)judge(bytes, size, revoked_count);
        printf("\n");
        free(bytes);
    }
    return 0;
}

static int read_one(const char *path, size_t revoked_count)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return 2;
    }
    const long size = ftell(file);
    rewind(file);
    uint8_t *bytes = size >= 0 ? read_bytes(file, (size_t)size) : NULL;
    fclose(file);
    if (bytes == NULL) {
        perror(path);
        return 2;
    }
    const enum lsb_result result = judge(bytes, (uint64_t)size, revoked_count);
    free(bytes);
    return result == LSB_OK ? 0 : 1;
}

static bool read_key(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    const bool is_whole = fread(key[0], 1, LSB_KEY_BYTES, file) == LSB_KEY_BYTES;
    const bool is_all = fgetc(file) == EOF;
    fclose(file);
    return is_whole && is_all;
}

int main(int count, char **words)
{
    size_t revoked_count = 0;
    int next = 1;
    if (count > 2 && strcmp(words[1], "--revoked") == 0) {
        size_t got = 0;
        sodium_hex2bin(revoked[0], LSB_KEY_ID_BYTES, words[2], strlen(words[2]), NULL, &got, NULL);
        revoked_count = got == LSB_KEY_ID_BYTES ? 1 : 0;
        next = revoked_count == 1 ? 3 : count;
    }
    if (count - next != 2) {
        fprintf(stderr, "usage: lsb-read [--revoked KEYID] FILE|- KEY\n");
        return 2;
    }
    if (sodium_init() < 0 || !read_key(words[next + 1])) {
        fprintf(stderr, "%s: not the 32 bytes of a raw public key: openssl pkey -pubin -in factory.pub "
                "-outform DER | tail -c 32 > factory.raw\n",
                words[next + 1]);
        return 2;
    }
    return strcmp(words[next], "-") == 0 ? read_many(revoked_count)
                                         : read_one(words[next], revoked_count);
}
