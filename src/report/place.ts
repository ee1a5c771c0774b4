/** Where results are to go: tried before anything runs, so that nobody waits for what cannot be kept. */
import { closeSync, mkdirSync, openSync, rmSync, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { writeFailure } from '../base/write-failure.ts';

/**
 * Makes a directory and those above it that are missing. Not by the recursive option of mkdir, which never returns
 * where a file system has no directory and makes none (/proc, an automounter). @throws the error of mkdir.
 */
export function makeDirectory(path: string): void {
  const missing: string[] = [];
  let at = resolve(path);
  let found = statSync(at, { throwIfNoEntry: false });
  while (found === undefined && dirname(at) !== at) {
    missing.push(at);
    at = dirname(at);
    found = statSync(at, { throwIfNoEntry: false });
  }
  if (found?.isDirectory() === false) throw Object.assign(new Error('EEXIST'), { code: 'EEXIST', path: at });
  for (const next of missing.toReversed()) {
    try {
      mkdirSync(next);
    } catch (error) {
      // Another process may have made it just now.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/**
 * Makes the directory `path` and writes a file there for a moment. @throws UserError 104, or 113 when no space is left.
 */
export function tryDirectory(path: string, option = '--out DIR'): void {
  attempt(path, option, () => {
    makeDirectory(path);
    const probe = join(path, `.pinstorm-${process.pid}`);
    const fd = openSync(probe, 'w');
    try {
      writeSync(fd, 'pinstorm tries whether it can write here\n');
    } finally {
      closeSync(fd);
      rmSync(probe, { force: true });
    }
  });
}

/**
 * Sees whether the file `path` can be written, and leaves it as it is. @throws UserError 104, or 113 when no space is
 * left.
 */
export function tryFile(path: string, option: string): void {
  attempt(path, option, () => {
    const there = statSync(path, { throwIfNoEntry: false }) !== undefined;
    closeSync(openSync(path, 'a'));
    if (!there) unlinkSync(path);
  });
}

/** Writes a file whole. @throws UserError 104, or 113 when no space is left. */
export function writeResult(path: string, text: string, option = '--out FILE'): void {
  attempt(path, option, () => writeFileSync(path, text));
}

function attempt(path: string, option: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    throw writeFailure(path, error, option);
  }
}
