import { EXIT, UserError } from './errors.ts';

/**
 * What the user is told when a port cannot be had; another error as it is.
 * @param at.host left out: the user has no choice of it. @param option that chooses the port.
 */
export function listenError(
  error: NodeJS.ErrnoException,
  { port, host }: { readonly port: number; readonly host?: string },
  option: string,
): Error {
  const fix = `choose another with ${option} N, or 0 for any free one`;
  switch (error.code ?? '') {
    case 'EADDRINUSE': {
      const place = host === undefined ? '' : ` on ${host}`;
      return new UserError(EXIT.invalid, `port ${port}${place} is in use by another program`, fix);
    }
    case 'EACCES':
      return new UserError(EXIT.invalid, `no permission to listen on port ${port}`, fix);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      if (host === undefined) return error;
      return new UserError(EXIT.invalid, `${host} is not an address of this machine`, 'use 127.0.0.1 or 0.0.0.0');
    default:
      return error;
  }
}
