/** YAML text to a document, with bounds the library does not have: on nesting, and on the errors it makes. */
import { Composer, Lexer, Parser, type CST, type Document, type ErrorCode } from 'yaml';

export interface YamlError {
  readonly start: number;
  readonly end: number;
  readonly code: ErrorCode;
}

export type YamlResult =
  | { readonly document: Document | null; readonly errors: readonly YamlError[] }
  /** Nested deeper than `maxDepth`, at this offset. */
  | { readonly deepAt: number };

/** Errors after which the rest is not looked at: one broken quote can make one of every character that follows. */
const MAX_ERRORS = 100;

/** Thrown through the library to stop it. */
class Enough extends Error {}

/** Reads YAML 1.2. Repeated keys are no error here: the library looks for them in quadratic time. */
export function parseYaml(text: string, maxDepth: number): YamlResult {
  const errors: YamlError[] = [];
  const add = (start: number, end: number, code: ErrorCode): void => {
    errors.push({ start, end: Math.max(end, start + 1), code });
    if (errors.length >= MAX_ERRORS) throw new Enough();
  };
  const composer = new Composer({ version: '1.2', logLevel: 'error', prettyErrors: false, uniqueKeys: false });
  // Tag warnings are faults of a scenario too.
  composer['onError'] = (
    source: number | readonly [number, number] | { offset: number; source?: string },
    code: ErrorCode,
  ): void => {
    if (typeof source === 'number') add(source, source + 1, code);
    else if ('offset' in source) add(source.offset, source.offset + (source.source?.length ?? 1), code);
    else add(source[0], source[1], code);
  };
  const parser = new Parser();
  let document: Document | null = null;
  let ends = 0;
  const keep = (next: Document.Parsed): void => {
    if (document === null) document = next;
    else add(next.range[0], next.range[1], 'MULTIPLE_DOCS');
  };
  const compose = (token: CST.Token): void => {
    // The composer would keep these to itself.
    if (token.type === 'error') add(token.offset, token.offset + token.source.length, 'UNEXPECTED_TOKEN');
    else if (token.type === 'doc-end' && (ends += 1) > 1) add(token.offset, token.offset + 3, 'UNEXPECTED_TOKEN');
    else for (const next of composer.next(token)) keep(next);
  };
  try {
    for (const lexeme of new Lexer().lex(text)) {
      for (const token of parser.next(lexeme)) compose(token);
      // The document and a scalar stand on the stack beside the lists and maps. Composing is recursive: too deep a nest
      // would end the process.
      if (parser.stack.length > maxDepth + 4) return { deepAt: parser.offset };
    }
    for (const token of parser.end()) compose(token);
    for (const next of composer.end(true, text.length)) keep(next);
  } catch (error) {
    if (!(error instanceof Enough)) throw error;
  }
  // An end before any document, which is not reported either.
  for (const { pos, code } of (document as Document | null)?.errors ?? []) {
    errors.push({ start: pos[0], end: Math.max(pos[1], pos[0] + 1), code });
  }
  return { document, errors };
}
