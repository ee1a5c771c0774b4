/** Thresholds and invariants as JUnit XML, which CI servers show as tests. */
import { duration, percent, quantity } from './format.ts';
import type { RunResults, ThresholdResult } from './results.ts';
import { stateOf } from './thresholds.ts';

export function junitXml(results: RunResults): string {
  const { run, thresholds, accounting, durationNs, verdict, complete } = results;
  const seconds = (durationNs / 1e9).toFixed(3);
  const { invariants = accounting.balance === 'exact' ? ['balance'] : [], violations } = accounting;
  const kept = invariants.filter((name) => violations.every(({ invariant }) => invariant !== name));
  const cases = [
    ...thresholds.map((t) => ({
      suite: 'thresholds',
      name: `${t.metric} ${t.expression}`,
      failure: { held: null, crossed: `observed ${observed(t)}`, 'not judged': 'not judged: nothing was measured' }[
        stateOf(t)
      ],
      detail: '',
    })),
    ...accounting.violations.map((v) => ({
      suite: 'invariants',
      name: v.expected ? `${v.invariant} (violation expected)` : v.invariant,
      failure: v.expected || v.count === 0 ? null : `violated ${v.count === 1 ? 'once' : `${v.count} times`}`,
      detail: v.history ?? '',
    })),
    ...kept.map((name) => ({ suite: 'invariants', name, failure: null, detail: '' })),
    {
      suite: 'run',
      name: complete ? 'verdict' : 'the run ends',
      failure: verdict.verdict === 'pass' ? null : `${verdict.verdict}, exit status ${verdict.exitCode}`,
      detail: verdict.reasons.join('\n'),
    },
  ];
  const suites = [...new Set(cases.map(({ suite }) => suite))].map((suite) => {
    const own = cases.filter((one) => one.suite === suite);
    const failed = own.filter(({ failure }) => failure !== null).length;
    const tests = own.map(({ name, failure, detail }) => {
      const head = `    <testcase classname="${xml(`${run.name}.${suite}`)}" name="${xml(name)}" time="0"`;
      return failure === null
        ? `${head}/>`
        : `${head}>\n      <failure message="${xml(failure)}">${xml(detail)}</failure>\n    </testcase>`;
    });
    const attributes = `name="${xml(suite)}" tests="${own.length}" failures="${failed}" errors="0" skipped="0" time="${seconds}"`;
    return [`  <testsuite ${attributes}>`, ...tests, '  </testsuite>'].join('\n');
  });
  const failures = cases.filter(({ failure }) => failure !== null).length;
  const head = `<testsuites name="${xml(run.name)}" tests="${cases.length}" failures="${failures}" errors="0" time="${seconds}">`;
  return ['<?xml version="1.0" encoding="UTF-8"?>', head, ...suites, '</testsuites>', ''].join('\n');
}

function observed({ observed: value, unit }: ThresholdResult): string {
  if (value === null) return 'no samples';
  if (unit === 'ns') return duration(value);
  return unit === 'share' ? percent(value) : `${quantity(value)}${unit === 'per_second' ? '/s' : ''}`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const UNWRITABLE =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text for XML 1.0, which has no way to write most control characters nor half a surrogate pair. */
function xml(text: string): string {
  return (
    text
      .replace(UNWRITABLE, '\ufffd')
      .replace(/[&<>"]/g, (c) => ENTITIES[c] ?? c)
      // In an attribute a line break would become a space.
      .replace(/[\n\r\t]/g, (c) => `&#${c.charCodeAt(0)};`)
  );
}
