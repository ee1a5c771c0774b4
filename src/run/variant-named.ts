/** The variant that an option, a case or a token names. */
import { EXIT, UserError } from '../base/errors.ts';
import type { Variant } from '../model/env.ts';
import { resolveVariant, UnknownVariantError } from '../model/kernels/index.ts';

/** @param option what named it, for the message. @throws UserError 104 for an unknown variant or kernel version. */
export function variantNamed(name: string, option?: string): Variant {
  try {
    return resolveVariant(name);
  } catch (error) {
    if (!(error instanceof UnknownVariantError)) throw error;
    const where = option === undefined ? '' : `${option}: `;
    throw new UserError(EXIT.invalid, `${where}${error.message}`, error.hint);
  }
}
