/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_tables.h"

#include "lsb_bytes.h"
#include "lsb_fields.h"

enum {
    PARTS_LIMIT = 64,
    BATCH_LIMIT = 4096
};

#define PART_SIZE_LIMIT ((uint64_t)1 << 40)

/* By enum lsb_engine. */
static const char *const engines[] = {"", "onnxruntime", "openvino", NULL};

void lsb_read_identity(struct lsb_json *json, struct lsb_text *product, struct lsb_text *version)
{
    static const char *const keys[] = {"minimum_runtime", "product", "security_counter",
                                       "target",          "version", NULL};
    struct lsb_bundle *bundle = json->bundle;
    uint32_t seen = 0;
    lsb_begin_object(json);
    for (;;) {
        switch (lsb_next_known_key(json, keys, &seen)) {
        case 0:
            lsb_read_release(json, bundle->minimum_runtime);
            break;
        case 1:
            lsb_read_name_for_people(json, product);
            break;
        case 2:
            bundle->security_counter = (uint32_t)lsb_read_integer(json, 0, UINT32_MAX);
            break;
        case 3:
            lsb_read_word(json, bundle->target);
            break;
        case 4:
            lsb_read_name_for_people(json, version);
            break;
        default:
            return;
        }
    }
}

static void read_part(struct lsb_json *json, struct lsb_part *part)
{
    static const char *const keys[] = {"engine", "name", "sha256", "size_bytes", NULL};
    uint32_t seen = 0;
    lsb_begin_object(json);
    for (;;) {
        switch (lsb_next_known_key(json, keys, &seen)) {
        case 0:
            part->engine = lsb_read_choice(json, engines);
            break;
        case 1:
            lsb_read_part_name(json, part->name);
            break;
        case 2:
            lsb_read_sha256(json, part->sha256);
            break;
        case 3:
            part->size = lsb_read_integer(json, 0, PART_SIZE_LIMIT);
            break;
        default:
            return;
        }
    }
}

/* The index of the part of that name, or `count`. */
static size_t find_part(const struct lsb_bundle *bundle, size_t count, const char *name)
{
    size_t index = 0;
    while (index < count && !lsb_same_word(bundle->parts[index].name, name)) {
        index++;
    }
    return index;
}

void lsb_read_parts(struct lsb_json *json)
{
    struct lsb_bundle *bundle = json->bundle;
    size_t count = 0;
    lsb_begin_array(json);
    while (lsb_next_item(json)) {
        if (count == LSB_MAX_PARTS) {
            lsb_refuse_json(json, count == PARTS_LIMIT ? LSB_FIELD : LSB_TOO_LARGE);
            return;
        }
        read_part(json, &bundle->parts[count]);
        if (find_part(bundle, count, bundle->parts[count].name) != count) {
            lsb_refuse_json(json, LSB_FIELD);
        }
        count++;
    }
    if (count == 0) {
        lsb_refuse_json(json, LSB_FIELD);
    }
    bundle->part_count = count;
}

/* Names of parts that the model needs. Gives a bit for each engine that one of them is for. */
static unsigned read_needed_parts(struct lsb_json *json, struct lsb_model *model)
{
    const struct lsb_bundle *bundle = json->bundle;
    char name[LSB_WORD_BYTES] = "";
    unsigned needed = 0;
    size_t count = 0;
    lsb_begin_array(json);
    while (lsb_next_item(json)) {
        lsb_read_part_name(json, name);
        const size_t index = find_part(bundle, bundle->part_count, name);
        if (index == bundle->part_count || count == PARTS_LIMIT) {
            lsb_refuse_json(json, LSB_FIELD);
            return 0;
        }
        model->first_part = count == 0 ? (uint8_t)index : model->first_part;
        needed |= 1U << bundle->parts[index].engine;
        count++;
    }
    if (count == 0) {
        lsb_refuse_json(json, LSB_FIELD);
    }
    return needed;
}

static void check_engine(struct lsb_json *json, const struct lsb_model *model, unsigned needed)
{
    const unsigned allowed = 1U << LSB_EVERY_DEVICE | 1U << model->engine;
    if (model->engine == LSB_EVERY_DEVICE || (needed & ~allowed) != 0) {
        lsb_refuse_json(json, LSB_FIELD);
    }
}

static void read_model(struct lsb_json *json, struct lsb_model *model)
{
    static const char *const keys[] = {"batch", "engine",    "inference_precision",
                                       "parts", "precision", NULL};
    static const char *const precisions[] = {"f32", "bf16", NULL};
    unsigned needed = 0;
    uint32_t seen = 0;
    lsb_begin_object(json);
    for (;;) {
        switch (lsb_next_known_key(json, keys, &seen)) {
        case 0:
            model->batch = (uint16_t)lsb_read_integer(json, 1, BATCH_LIMIT);
            break;
        case 1:
            model->engine = lsb_read_choice(json, engines);
            break;
        case 2:
            model->bf16 = lsb_read_choice(json, precisions) == 1;
            break;
        case 3:
            needed = read_needed_parts(json, model);
            break;
        case 4:
            lsb_read_word(json, model->precision);
            break;
        default:
            check_engine(json, model, needed);
            return;
        }
    }
}

static bool is_doubled(const struct lsb_bundle *bundle, size_t index)
{
    const struct lsb_model *model = &bundle->models[index];
    for (size_t i = 0; i < index; i++) {
        if (bundle->models[i].engine == model->engine &&
            lsb_same_word(bundle->models[i].precision, model->precision)) {
            return true;
        }
    }
    return false;
}

void lsb_read_models(struct lsb_json *json)
{
    struct lsb_bundle *bundle = json->bundle;
    size_t count = 0;
    lsb_begin_array(json);
    while (lsb_next_item(json)) {
        if (count == LSB_MAX_MODELS) {
            lsb_refuse_json(json, LSB_TOO_LARGE);
            return;
        }
        read_model(json, &bundle->models[count]);
        if (is_doubled(bundle, count)) {
            lsb_refuse_json(json, LSB_FIELD);
        }
        count++;
    }
    if (count == 0) {
        lsb_refuse_json(json, LSB_FIELD);
    }
    bundle->model_count = count;
}
