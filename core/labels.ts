/**
 * Label sets and series identity.
 *
 * Identity bytes: labels sorted by name as UTF-8 bytes, empty values dropped, each label as
 * varint(name length) name varint(value length) value (LEB128, lengths in bytes). Two series are the
 * same exactly when these bytes are. ARCHITECTURE.md holds the rule and its test vectors.
 */

declare const labelsBrand: unique symbol;

/** A label set, flat: [name0, value0, name1, value1, ...], names sorted by UTF-8 bytes, unique, no empty value. */
export type Labels = readonly string[] & { readonly [labelsBrand]: true };
