/* SPDX-License-Identifier: Apache-2.0 */
/* What a result means, for logs; linked only where it is asked for. */
#include "lsb.h"

struct words {
    const char *refusal, *told;
};

static const struct words of_result[] = {
    [LSB_OK] = {"", "every check held"},
    [LSB_STORAGE] = {"storage", "the storage could not be read: try again, then look at the flash"},
    [LSB_CRYPTO] = {"reader", "SHA-256 failed: look at the firmware's crypto"},
    [LSB_CHANGED] = {"storage", "the manifest changed while it was read: who else writes there?"},
    [LSB_NOT_A_BUNDLE] = {"format", "not a bundle: it does not begin with LSB1"},
    [LSB_DAMAGED] = {"format", "header damaged (CRC): send the bundle again"},
    [LSB_OTHER_FORMAT] = {"incompatible", "a later format: update the firmware"},
    [LSB_HEADER] = {"format", "header: a size or reserved bytes are not as format 1 says"},
    [LSB_CUT_SHORT] = {"format", "cut short: send the bundle again"},
    [LSB_KEY_UNKNOWN] = {"untrusted", "sealed by a key that is not trusted here"},
    [LSB_KEY_REVOKED] = {"untrusted", "sealed by a key that was revoked: seal it anew"},
    [LSB_SIGNATURE] = {"signature", "the seal does not hold: do not use this bundle"},
    [LSB_NOT_JSON] = {"format", "the manifest is not JSON"},
    [LSB_OLD_RUNTIME] = {"incompatible", "made for a later runtime: update the firmware"},
    [LSB_FIELD] = {"format", "manifest: a field is missing, unknown, doubled or out of bounds"},
    [LSB_PRESENT] = {"format", "present parts: only the parts of a whole engine may be left out"},
    [LSB_LAYOUT] = {"format", "length or padding are not those of the table: send it again"},
    [LSB_PART_HASH] = {"part", "a part is not the sealed one: send the bundle again"},
    [LSB_TOO_LARGE] = {"reader", "more than this build holds: see LSB_MAX_PARTS and the like"},
    [LSB_NO_PART] = {"caller", "this copy has no such part"},
    [LSB_OUT_OF_PART] = {"caller", "beyond the part's end, or the buffer is too small"},
};

static const struct words *find(enum lsb_result result)
{
    static const struct words unknown = {"caller", "no result of this reader"};
    const size_t index = (size_t)result;
    return index < sizeof of_result / sizeof of_result[0] ? &of_result[index] : &unknown;
}

const char *lsb_tell(enum lsb_result result)
{
    return find(result)->told;
}

const char *lsb_class(enum lsb_result result)
{
    return find(result)->refusal;
}
