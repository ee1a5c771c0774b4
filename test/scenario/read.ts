import { readFileSync } from 'node:fs';
import { parseSource, type ParsedSource } from '../../src/scenario/source.ts';

/** A file of the repository, parsed. */
export const parsedFile = (file: string): ParsedSource => parseSource(file, readFileSync(file, 'utf8'));
