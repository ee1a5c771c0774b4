/**
 * What went wrong when something could not be written, as an error for users: one wording and one status wherever it
 * happens.
 */
import { EXIT, UserError, type ExitCode } from './errors.ts';

/** The medium fails: nothing is wrong with what was asked for, and what was found out is lost. */
const MEDIUM: Readonly<Record<string, readonly [cause: string, hint: string]>> = {
  ENOSPC: ['no space is left', 'free some space or choose another place'],
  EDQUOT: ['the disk quota is used up', 'free some space or choose another place'],
  EFBIG: ['the file size limit is reached', 'raise the limit (ulimit -f)'],
  EIO: ['the device fails', 'choose another place'],
};
/** The place is wrong. */
const PLACE: Readonly<Record<string, readonly [cause: string, hint: string]>> = {
  EACCES: ['permission denied', 'choose a place you may write to'],
  EPERM: ['permission denied', 'choose a place you may write to'],
  EROFS: ['the file system is read-only', 'choose another place'],
  ENOTDIR: ['a part of the path is a file', 'choose another place'],
  EISDIR: ['it is a directory', 'name a file'],
  EEXIST: ['a file is in the way', 'choose another place'],
  EBADF: ['it is closed', 'this is a bug in pinstorm'],
  ENOENT: ['there is no such directory, and none can be made', 'choose another place'],
  ENAMETOOLONG: ['the name is too long', 'choose a shorter one'],
  ELOOP: ['its symbolic links go round in a circle', 'choose another place'],
};

/**
 * @param option says where the place is chosen, for the hint: `--out DIR`; undefined where nothing can be chosen.
 * @param status of a wrong place; a medium that fails is 113 everywhere.
 */
export function writeFailure(
  path: string,
  thrown: unknown,
  option?: string,
  status: ExitCode = EXIT.invalid,
): UserError {
  const { code = '' } = thrown as NodeJS.ErrnoException;
  const failing = MEDIUM[code];
  const [cause, hint] = failing ?? PLACE[code] ?? [code || String(thrown), 'choose another place'];
  const how = option !== undefined && hint.includes('choose') ? `${hint} with ${option}` : hint;
  return new UserError(failing === undefined ? status : EXIT.inconclusive, `cannot write ${path}: ${cause}`, how);
}
