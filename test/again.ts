/** A reporter of node:test: after the last test, one command for each that failed, which runs it alone. */
import { relative, resolve } from 'node:path';

interface TestEvent {
  readonly type: string;
  readonly data: { readonly name?: string; readonly file?: string; readonly details?: { readonly type?: string } };
}

const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The command that runs the test `name` of `file` alone: node:test names the source where it has a source map. */
export function again(name: string, file: string): string {
  const source = relative('.', resolve(file))
    .replace(/^dist\//, '')
    .replace(/\.js$/, '.ts');
  const pattern = name.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
  return `again: test/run ${source} -- --test-name-pattern=${quoted(`^${pattern}$`)}`;
}

export default async function* reporter(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const commands = new Set<string>();
  for await (const { type, data } of events) {
    const { name, file, details } = data;
    // A file and a suite fail because of a test in them.
    if (type !== 'test:fail' || name === undefined || file === undefined || details?.type === 'suite') continue;
    if (resolve(name) !== resolve(file)) commands.add(again(name, file));
  }
  for (const command of commands) yield `${command}\n`;
}
