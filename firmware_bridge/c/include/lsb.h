/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a Lineside bundle (docs/bundle-format.md, format 1) from any storage: no heap, no mapping, no
 * recursion, and never the whole manifest in memory. C99; of the C library only memcpy and its like,
 * which compilers ask for themselves.
 *
 * Lines that say "step N" mean the numbered steps of that document's section "Reading".
 */
#ifndef LSB_H
#define LSB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a build may set smaller to save memory, or (the chunk) larger to save time. A bundle beyond
 * them is refused with LSB_TOO_LARGE. Set them for every file that includes this one alike. */
#ifndef LSB_MAX_PARTS
#define LSB_MAX_PARTS 64 /* the format's own limit; 120 bytes each */
#endif
#ifndef LSB_MAX_MODELS
#define LSB_MAX_MODELS 16 /* the format has no limit; 70 bytes each */
#endif
#ifndef LSB_MAX_MANIFEST_BYTES
#define LSB_MAX_MANIFEST_BYTES 262144U /* the format's own limit; costs time only */
#endif
#ifndef LSB_CHUNK_BYTES
#define LSB_CHUNK_BYTES 256 /* how much is read at once */
#endif
#ifndef LSB_SHA256_STATE_BYTES
#define LSB_SHA256_STATE_BYTES 128 /* room for the state of the firmware's own SHA-256 */
#endif

#define LSB_KEY_BYTES 32
#define LSB_KEY_ID_BYTES 16
#define LSB_HASH_BYTES 32
#define LSB_SIGNATURE_BYTES 64
#define LSB_WORD_BYTES 65  /* a word or a part's name of 64 bytes, and its end */
#define LSB_TEXT_BYTES 801 /* product or version: 200 characters of UTF-8, and the end */

enum lsb_result {
    LSB_OK = 0,
    LSB_STORAGE,      /* read() reported a failure */
    LSB_CRYPTO,       /* a SHA-256 function reported a failure */
    LSB_CHANGED,      /* the manifest was another when it was read again: is somebody writing? */
    LSB_NOT_A_BUNDLE, /* step 1 */
    LSB_DAMAGED,      /* step 2: the header's CRC */
    LSB_OTHER_FORMAT, /* step 3 */
    LSB_HEADER,       /* steps 4 and 5: header size, reserved fields, manifest size */
    LSB_CUT_SHORT,    /* step 5: shorter than its manifest */
    LSB_KEY_UNKNOWN,  /* step 6 */
    LSB_KEY_REVOKED,  /* step 6 */
    LSB_SIGNATURE,    /* step 7 */
    LSB_NOT_JSON,     /* step 8 */
    LSB_OLD_RUNTIME,  /* step 9: made for a later runtime, or a later manifest */
    LSB_FIELD,        /* step 10: a field is missing, unknown, doubled or beyond its limits */
    LSB_PRESENT,      /* step 11: present bits */
    LSB_LAYOUT,       /* step 12: places, length, bytes between the parts */
    LSB_PART_HASH,    /* step 13 */
    LSB_TOO_LARGE,    /* more parts, models or manifest than this build of the reader holds */
    LSB_NO_PART,      /* this copy has no such part */
    LSB_OUT_OF_PART   /* asked for bytes beyond the part's end, or the buffer is too small for it */
};

enum lsb_engine { LSB_EVERY_DEVICE = 0, LSB_ONNXRUNTIME = 1, LSB_OPENVINO = 2 };

/* Where the bundle lies: flash, a file, memory. */
struct lsb_storage {
    /* Copies bytes [offset, offset + size) to `to`; never asked for bytes beyond `size` below.
     * Returns 0, or anything else for a failure. */
    int (*read)(void *context, uint64_t offset, void *to, size_t size);
    void *context;
    uint64_t size; /* of the bundle in bytes, exactly: not of the flash area that it lies in */
};

/* Room for the state of the firmware's own SHA-256; 8-byte aligned. */
struct lsb_sha256 {
    uint64_t room[(LSB_SHA256_STATE_BYTES + 7) / 8];
};

/* The signed bytes, in pieces; see lsb_next_piece. */
struct lsb_message;

/* What the firmware supplies: SHA-256 (FIPS 180-4) in three steps, and Ed25519 (RFC 8032, sec. 5.1). */
struct lsb_crypto {
    void *context; /* handed to each of them */
    /* Each returns 0, or anything else for a failure. */
    int (*sha256_start)(void *context, struct lsb_sha256 *state);
    int (*sha256_add)(void *context, struct lsb_sha256 *state, const uint8_t *data, size_t size);
    int (*sha256_finish)(void *context, struct lsb_sha256 *state, uint8_t hash[LSB_HASH_BYTES]);
    /* Whether the signature holds over all pieces of the message, in their order. */
    bool (*ed25519_holds)(void *context, const uint8_t key[LSB_KEY_BYTES],
                          const uint8_t signature[LSB_SIGNATURE_BYTES],
                          struct lsb_message *message);
};

/* Gives the next piece of the signed bytes, 1 to LSB_CHUNK_BYTES (the first: 32) bytes that are there
 * until the next call; 0 at their end. For ed25519_holds alone. */
size_t lsb_next_piece(struct lsb_message *message, const uint8_t **piece);

/* What this device trusts and can do; may lie in flash. */
struct lsb_device {
    const struct lsb_crypto *crypto;
    const uint8_t (*keys)[LSB_KEY_BYTES]; /* raw public keys whose seal counts */
    size_t key_count;
    const uint8_t (*revoked)[LSB_KEY_ID_BYTES]; /* ids of keys whose seal counts no more, or NULL */
    size_t revoked_count;
    uint16_t runtime[3]; /* the Lineside runtime that the firmware stands for, e.g. {0, 1, 0} */
};

struct lsb_part {
    char name[LSB_WORD_BYTES];
    uint8_t engine; /* enum lsb_engine: who needs it */
    bool present;   /* in this copy */
    uint8_t sha256[LSB_HASH_BYTES];
    uint64_t offset; /* of its first byte in the storage; 0 where it is not present */
    uint64_t size;
};

/* One compiled form of the model. */
struct lsb_model {
    char precision[LSB_WORD_BYTES];
    uint8_t engine;     /* enum lsb_engine, never LSB_EVERY_DEVICE */
    uint8_t first_part; /* index in `parts`: the file that the engine opens */
    bool bf16;          /* what layers that are not quantised compute in; else f32 */
    uint16_t batch;
};

/* Private to the reader: one reading of the signed bytes, hashed as it goes. */
struct lsb_pass {
    uint64_t offset, end;
    size_t used, filled;
    enum lsb_result fault;
    struct lsb_sha256 sha256;
    uint8_t chunk[LSB_CHUNK_BYTES];
};

/* An open bundle; the caller's memory, zeroed by lsb_open. Read the fields, do not write them. */
struct lsb_bundle {
    uint8_t hash[LSB_HASH_BYTES]; /* SHA-256 over the signed bytes: the bundle's name everywhere */
    const uint8_t *key;           /* of the device's keys: whose seal it is */
    uint32_t security_counter;
    uint16_t minimum_runtime[3];
    char target[LSB_WORD_BYTES]; /* the hardware that it was made for, or "any" */
    uint32_t manifest_size;
    uint64_t present; /* bit i: part i is in this copy */
    size_t part_count, model_count;
    struct lsb_part parts[LSB_MAX_PARTS];
    struct lsb_model models[LSB_MAX_MODELS];

    struct lsb_storage storage; /* from here on private */
    const struct lsb_device *device;
    uint8_t signed_header[32];
    struct lsb_pass pass;
};

/* Opens a bundle and checks all of it, steps 1 to 13, every present part's hash included.
 * Nothing in `bundle` counts unless LSB_OK comes back. `device` and what it names must stay. */
enum lsb_result lsb_open(struct lsb_bundle *bundle, const struct lsb_storage *storage,
                         const struct lsb_device *device);

/* The same without step 13, for a start that cannot wait: a part counts only once lsb_check_part or
 * lsb_load_part has said LSB_OK of it. */
enum lsb_result lsb_open_unhashed(struct lsb_bundle *bundle, const struct lsb_storage *storage,
                                  const struct lsb_device *device);

/* Step 13 for one part: hashes it where it lies. */
enum lsb_result lsb_check_part(struct lsb_bundle *bundle, const struct lsb_part *part);

/* The present part of that name, or NULL. */
const struct lsb_part *lsb_find_part(const struct lsb_bundle *bundle, const char *name);

/* Copies the whole part to `to` and hashes the very bytes that it copied: what LSB_OK is said of
 * cannot have changed since. Else nothing at `to` may be used. */
enum lsb_result lsb_load_part(struct lsb_bundle *bundle, const struct lsb_part *part, void *to,
                              size_t room);

/* Copies bytes [offset, offset + size) of the part, unhashed: only from storage that nobody can
 * have written since the part was checked. */
enum lsb_result lsb_read_part(const struct lsb_bundle *bundle, const struct lsb_part *part,
                              uint64_t offset, void *to, size_t size);

/* Reads product and version out, for people: UTF-8, ended by a zero, cut between characters where
 * the room is too small. LSB_TEXT_BYTES are enough for each; either may have no room (0). A zero
 * character inside, which the format allows, ends it early. */
enum lsb_result lsb_read_texts(struct lsb_bundle *bundle, char *product, size_t product_room,
                               char *version, size_t version_room);

/* Whether the bundle was made for this hardware: its target is that name, or "any". */
bool lsb_is_for(const struct lsb_bundle *bundle, const char *hardware);

/* For a log: what is wrong and what helps, in one short line; never NULL. */
const char *lsb_tell(enum lsb_result result);

/* The class of a refusal as the format's test vectors name it: "format", "incompatible", "untrusted",
 * "signature", "part"; "storage", "reader" and "caller" where it is not the bundle's fault. */
const char *lsb_class(enum lsb_result result);

#ifdef __cplusplus
}
#endif

#endif
