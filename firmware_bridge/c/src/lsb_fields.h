/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the manifest's kinds. Each is LSB_FIELD where it is not within the format's limits. */
#ifndef LSB_FIELDS_H
#define LSB_FIELDS_H

#include "lsb_json.h"

/* 1 to 200 characters; `text` says where to. */
void lsb_read_name_for_people(struct lsb_json *json, struct lsb_text *text);

/* [a-z0-9][a-z0-9._-]*, at most 64 bytes. */
void lsb_read_word(struct lsb_json *json, char to[LSB_WORD_BYTES]);

/* Words joined by slashes, at most 64 bytes. */
void lsb_read_part_name(struct lsb_json *json, char to[LSB_WORD_BYTES]);

/* 64 lower-case hexadecimal digits. */
void lsb_read_sha256(struct lsb_json *json, uint8_t to[LSB_HASH_BYTES]);

/* Three numbers of 1 to 4 decimal digits, joined by dots. */
void lsb_read_release(struct lsb_json *json, uint16_t to[3]);

/* The index of the word in `words`, which NULL ends. */
uint8_t lsb_read_choice(struct lsb_json *json, const char *const *words);

#endif
