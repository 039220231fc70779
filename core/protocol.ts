/** The messages of proto/silverback.proto as TypeScript sees them, and the loaded services. */

/** See the proto. */
export type AckLevel = 'LOCAL' | 'FSYNC' | 'PEER';
