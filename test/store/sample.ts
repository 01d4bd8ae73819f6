import type { Row, RunIdentity } from '../../src/contracts/index.ts';
import { runId } from '../../src/kit/index.ts';

export function sampleIdentity(change: Partial<RunIdentity> = {}): RunIdentity {
  const rest: Omit<RunIdentity, 'id'> = {
    version: 1,
    checkpoint: { id: 'base', digest: `sha256:${'a'.repeat(64)}` },
    engine: 'echo@1.0.0',
    suite: { id: 'tickets', version: '1.0.0', digest: `sha256:${'b'.repeat(64)}`, layer: 'A' },
    split: 'validation',
    decoding: { maxTokens: 8 },
    validators: ['exact@1.0.0'],
    seed: 7,
    epochs: 1,
    ...change,
  };
  return { ...rest, id: runId(rest) };
}

export function sampleRow(name: string, change: Partial<Row> = {}): Row {
  return {
    version: 1,
    suite: 'tickets',
    layer: 'A',
    split: 'validation',
    case: name,
    caseDigest: `sha256:${'c'.repeat(64)}`,
    cluster: null,
    tags: [],
    epoch: 1,
    status: 'ok',
    output: { text: `answer to ${name} — “ünïcode” \ud83d\ude00\n` },
    usage: { promptTokens: 3, generatedTokens: 4 },
    scores: { exact: { value: 1 } },
    ...change,
  };
}
