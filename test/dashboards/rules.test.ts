// needs: promtool
/** The configuration of Prometheus and Grafana in deploy/, by promtool and by what refers to what. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { DATASOURCE } from '../../dashboards/source/panels.ts';

const PROMETHEUS = 'deploy/prometheus/prometheus.yml';
const RULES = ['recording', 'alerts'];
const read = (file: string): unknown => parse(readFileSync(file, 'utf8'));

function promtool(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { encoding: 'utf8' });
  assert.equal(error, undefined, 'promtool is missing: apt-get install --no-install-recommends prometheus');
  return { status, output: stdout + stderr };
}

test('promtool accepts the configuration and the rules', () => {
  const { status, output } = promtool('check', 'config', '--lint=all', '--lint-fatal', PROMETHEUS);
  assert.equal(status, 0, output);
  for (const rules of RULES) assert.match(output, new RegExp(`rules/${rules}.yml\\n  SUCCESS`));
});

test('the rules do what they say', () => {
  const { status, output } = promtool('test', 'rules', ...RULES.map((name) => `test/dashboards/rules/${name}.yml`));
  assert.equal(status, 0, output);
});

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly record?: string; readonly alert?: string }[] }[];
}
interface RuleTests {
  readonly tests: readonly {
    readonly promql_expr_test?: readonly { readonly expr: string }[];
    readonly alert_rule_test?: readonly { readonly alertname: string; readonly exp_alerts?: unknown[] }[];
  }[];
}

test('every rule is tested; every alert is seen firing and not firing', () => {
  const names = (file: string): string[] =>
    (read(`deploy/prometheus/rules/${file}.yml`) as Rules).groups.flatMap(({ rules }) =>
      rules.map(({ record, alert }) => record ?? alert ?? ''),
    );
  const { tests } = read('test/dashboards/rules/recording.yml') as RuleTests;
  const asked = tests.flatMap(({ promql_expr_test = [] }) => promql_expr_test.map(({ expr }) => expr));
  for (const record of names('recording')) {
    assert.ok(
      asked.some((expr) => expr.includes(record)),
      `no test of ${record}`,
    );
  }
  const alerts = (read('test/dashboards/rules/alerts.yml') as RuleTests).tests.flatMap((t) => t.alert_rule_test ?? []);
  for (const alert of names('alerts')) {
    const of = alerts.filter(({ alertname }) => alertname === alert);
    assert.ok(
      of.some((t) => t.exp_alerts !== undefined),
      `${alert} never fires in a test`,
    );
    assert.ok(
      of.some((t) => t.exp_alerts === undefined),
      `${alert} always fires in the tests`,
    );
  }
});

test('provisioning of Grafana', () => {
  const { datasources } = read('deploy/grafana/provisioning/datasources/prometheus.yml') as {
    datasources: { uid: string; type: string; jsonData: { timeInterval: string } }[];
  };
  const [datasource] = datasources;
  assert.deepEqual([datasources.length, datasource?.uid], [1, 'pinstorm-prometheus']);
  assert.equal(datasource?.type, DATASOURCE.type);
  const { global } = read(PROMETHEUS) as { global: { scrape_interval: string } };
  assert.equal(datasource?.jsonData.timeInterval, global.scrape_interval, '$__rate_interval comes from it');
  const { providers } = read('deploy/grafana/provisioning/dashboards/pinstorm.yml') as {
    providers: { type: string; allowUiUpdates: boolean; options: { path: string } }[];
  };
  assert.deepEqual(
    providers.map(({ type, allowUiUpdates, options }) => [type, allowUiUpdates, options.path]),
    [['file', false, '/var/lib/grafana/dashboards']],
  );
});
