import type { z } from 'zod';

/**
 * The fields of a schema for `T`, a shape that a lower part of the program defines. `satisfies Fields<T>` has the
 * compiler refuse a schema that lacks a field of it, has another one, or takes another type.
 */
export type Fields<T> = { readonly [K in keyof T]-?: z.ZodType<T[K]> };
