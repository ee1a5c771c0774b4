export type Labels = Readonly<Record<string, string>>;

export interface Value {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}
export type Add = (
  type: 'counter' | 'gauge' | 'histogram' | 'summary',
  name: string,
  help: string,
  read: () => Value[],
) => void;
