/**
 * Text from files, arguments, Redis or the environment may hold characters that a terminal obeys: escapes, and marks
 * that turn the direction of writing, so that a line reads as something else than it is. None of them is printed.
 */

/** Also the tab and the end of a line, which are harmless but are not part of a line. */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
/** A colour that `paint` sets, or a character that a terminal obeys. */
const UNPRINTABLE =
  // oxlint-disable-next-line no-control-regex
  /(\u001b\[(?:0|1|2|31|32|33|36)m)|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text as one line: a space stands for each control character. */
export const oneLine = (text: string): string => text.replace(CONTROLS, ' ');

/**
 * Text of several lines with each other control character as the escape that JSON has for it, so that a JSON document
 * stays the same document. CRLF ends a line too. @param colors whether the colours of `paint` stay.
 */
export const escaped = (text: string, colors = false): string =>
  text.replace(UNPRINTABLE, (found, color: string | undefined, at: number) => {
    if (color !== undefined && colors) return color;
    if (found === '\r' && text[at + 1] === '\n') return found;
    return color === undefined ? escape(found) : `${escape(color.charAt(0))}${color.slice(1)}`;
  });

/** A copy of plain data, each text of it (keys, too) escaped. */
export function withoutEscapes<T>(data: T): T {
  if (typeof data === 'string') return escaped(data) as T;
  if (typeof data !== 'object' || data === null) return data;
  if (Array.isArray(data)) return data.map(withoutEscapes) as T;
  return Object.fromEntries(Object.entries(data).map(([key, own]) => [escaped(key), withoutEscapes(own)])) as T;
}

const WORD_MAX = 200;
const LINE_MAX = 400;

/** A message whose lines are short enough to read: of an endless word the middle is left out, of a line the end. */
export const bounded = (text: string): string =>
  text
    .replace(/\S+/g, (word) => (word.length <= WORD_MAX ? word : `${word.slice(0, 120)}...${word.slice(-60)}`))
    .replace(/.+/g, (line) => (line.length <= LINE_MAX ? line : `${line.slice(0, LINE_MAX - 3)}...`));

const escape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
