/* SPDX-License-Identifier: Apache-2.0 */
#include "lsb_fields.h"
#include "lsb_manifest.h"
#include "lsb_pass.h"

enum { KEY_ROOM = 24 };

/* What is looked for, and whether it was there. */
struct need {
    uint64_t format;
    uint16_t runtime[3];
    bool has_format, has_runtime;
};

static void read_need_of_identity(struct lsb_json *json, struct need *need)
{
    char room[KEY_ROOM];
    struct lsb_text key = {room, sizeof room, 0, 0, false};
    lsb_begin_object(json);
    while (lsb_next_key(json, &key)) {
        if (lsb_is_word(&key, "minimum_runtime")) {
            lsb_read_release(json, need->runtime);
            need->has_runtime = true;
        } else {
            lsb_skip_value(json);
        }
    }
}

static void read_need(struct lsb_json *json, struct need *need)
{
    char room[KEY_ROOM];
    struct lsb_text key = {room, sizeof room, 0, 0, false};
    lsb_begin_object(json);
    while (lsb_next_key(json, &key)) {
        if (lsb_is_word(&key, "format")) {
            need->format = lsb_read_integer(json, 0, UINT64_MAX);
            need->has_format = true;
        } else if (lsb_is_word(&key, "identity")) {
            read_need_of_identity(json, need);
        } else {
            lsb_skip_value(json);
        }
    }
    lsb_end_json(json);
}

static bool is_newer(const uint16_t one[3], const uint16_t other[3])
{
    for (int i = 0; i < 3; i++) {
        if (one[i] != other[i]) {
            return one[i] > other[i];
        }
    }
    return false;
}

enum lsb_result lsb_check_runtime(struct lsb_bundle *bundle)
{
    struct lsb_json json = {bundle, false};
    struct need need = {0, {0, 0, 0}, false, false};
    lsb_begin_pass(bundle);
    read_need(&json, &need);
    const enum lsb_result result = lsb_compare_hash(bundle);
    if (result != LSB_OK) {
        return result;
    }
    if (!need.has_format || !need.has_runtime) {
        return LSB_FIELD;
    }
    return need.format != 1 || is_newer(need.runtime, bundle->device->runtime) ? LSB_OLD_RUNTIME
                                                                               : LSB_OK;
}
