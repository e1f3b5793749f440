/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_manifest.h"

#include "lsb_fields.h"
#include "lsb_pass.h"
#include "lsb_tables.h"

/* What one reading of the manifest does with the value of a key; `texts` are product and version. */
typedef void read_value(struct lsb_json *json, int key, struct lsb_text texts[2]);

/* Indices in `top_keys`. */
enum { FORMAT = 2, IDENTITY = 3, MODELS = 5, PARTS = 6 };

static const char *const top_keys[] = {"contract", "evidence", "format",     "identity", "licence",
                                       "models",   "parts",    "provenance", "rule",     NULL};

static enum lsb_result read_through(struct lsb_bundle *bundle, read_value *read,
                                    struct lsb_text texts[2])
{
    struct lsb_json json = {bundle, false};
    uint32_t seen = 0;
    int key;
    lsb_begin_pass(bundle);
    lsb_begin_object(&json);
    while ((key = lsb_next_known_key(&json, top_keys, &seen)) != LSB_NO_MORE_KEYS) {
        read(&json, key, texts);
    }
    lsb_end_json(&json);
    return lsb_compare_hash(bundle);
}

static void read_table(struct lsb_json *json, int key, struct lsb_text texts[2])
{
    switch (key) {
    case FORMAT:
        (void)lsb_read_integer(json, 1, 1);
        break;
    case IDENTITY:
        lsb_read_identity(json, &texts[0], &texts[1]);
        break;
    case PARTS:
        lsb_read_parts(json);
        break;
    default:
        lsb_skip_value(json);
    }
}

/* Models name parts and stand before them: hence a reading of their own. */
static void read_models(struct lsb_json *json, int key, struct lsb_text texts[2])
{
    (void)texts;
    if (key == MODELS) {
        lsb_read_models(json);
    } else {
        lsb_skip_value(json);
    }
}

static void read_texts(struct lsb_json *json, int key, struct lsb_text texts[2])
{
    if (key == IDENTITY) {
        lsb_read_identity(json, &texts[0], &texts[1]);
    } else {
        lsb_skip_value(json);
    }
}

enum lsb_result lsb_read_manifest(struct lsb_bundle *bundle)
{
    struct lsb_text nowhere[2] = {{NULL, 0, 0, 0, false}, {NULL, 0, 0, 0, false}};
    enum lsb_result result = lsb_check_runtime(bundle);
    if (result == LSB_OK) {
        result = read_through(bundle, read_table, nowhere);
    }
    if (result == LSB_OK) {
        result = read_through(bundle, read_models, nowhere);
    }
    return result;
}

enum lsb_result lsb_read_texts(struct lsb_bundle *bundle, char *product, size_t product_room,
                               char *version, size_t version_room)
{
    struct lsb_text texts[2] = {{product, product_room, 0, 0, false},
                                {version, version_room, 0, 0, false}};
    return read_through(bundle, read_texts, texts);
}
