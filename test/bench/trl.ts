// TRL itself, for real: makes its environment where it is missing, proves it by the self-test, then trains the same jobs
// natively and by TRL with one process and with two, and compares the losses of every step. Ends with 1 where they part.
import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Progress } from '../../src/contracts/index.ts';
import { packageRoot, readJson } from '../../src/kit/index.ts';
import { setUpTrainer } from '../../src/jobs/doctor.ts';
import { openProject } from '../../src/jobs/project.ts';
import { trainCheckpoint } from '../../src/jobs/train.ts';

const { values } = parseArgs({
  options: { store: { type: 'string' }, python: { type: 'string' }, only: { type: 'string' } },
});
const store = values.store ?? fileURLToPath(new URL('../../.cache/trl', import.meta.url));
const tolerance = 1e-4;
const say = (line: string): void => void process.stderr.write(`${line}\n`);
const silent: Progress = {
  begin: () => ({ advance: () => {}, detail: () => {}, end: () => {} }),
  note: () => {},
};

/** Parameters of a method beside the recipe. Where a step can not be divided exactly, one process is compared alone. */
const works = [
  { method: 'sft', data: 'sft', parameters: {}, processes: [1, 2] },
  { method: 'dpo', data: 'dpo', parameters: { nllWeight: 0 }, processes: [1, 2] },
  { method: 'kto', data: 'kto', parameters: {}, processes: [1, 2] },
  { method: 'simpo', data: 'dpo', parameters: {}, processes: [1, 2] },
  { method: 'dpo', data: 'dpo', parameters: {}, processes: [1] },
  { method: 'orpo', data: 'dpo', parameters: {}, processes: [1] },
  { method: 'cpo', data: 'dpo', parameters: {}, processes: [1] },
].filter(({ method }) => values.only === undefined || values.only.split(',').includes(method));

const recipe = {
  epochs: 2,
  batchSize: 4,
  learningRate: 2e-3,
  schedule: 'cosine',
  warmupSteps: 1,
  dtype: 'f32',
};

const state = await setUpTrainer(store, 'trl', {
  note: say,
  ...(values.python === undefined ? {} : { python: values.python }),
});
say(state.detail);

const folder = await mkdtemp(join(tmpdir(), 'cupel-trl-bench-'));
const reference = join(packageRoot(), 'fixtures', 'reference', 'e2e');
const pairs = (await readFile(join(reference, 'dpo.jsonl'), 'utf8'))
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as { prompt: unknown; chosen: unknown; rejected: unknown });
writeFileSync(
  join(folder, 'kto.jsonl'),
  pairs
    .map(({ prompt, chosen, rejected }, index) =>
      JSON.stringify({ prompt, completion: index % 3 === 0 ? rejected : chosen, label: index % 3 !== 0 }),
    )
    .join('\n'),
);
mkdirSync(store, { recursive: true });
writeFileSync(
  join(folder, 'cupel.config.yaml'),
  JSON.stringify({
    project: 'trl',
    store,
    seed: 3,
    checkpoints: { tiny: { path: reference } },
    datasets: {
      sft: join(reference, 'sft.jsonl'),
      dpo: join(reference, 'dpo.jsonl'),
      kto: join(folder, 'kto.jsonl'),
    },
  }),
);

let apart = false;
try {
  const project = await openProject({
    config: join(folder, 'cupel.config.yaml'),
    progress: silent,
    signal: new AbortController().signal,
  });
  const losses = async (trainer: string, data: string, parameters: Readonly<Record<string, unknown>>) => {
    await trainCheckpoint(project, {
      checkpoint: 'trl-bench',
      trainer,
      base: 'tiny',
      data: [data],
      replay: null,
      parameters: { ...recipe, ...parameters },
      role: 'candidate',
      description: '',
    });
    const file = project.at('candidates', 'trl-bench.json');
    return (await readJson<{ training: { losses: readonly number[] } }>(file)).training.losses;
  };
  for (const { method, data, parameters, processes } of works) {
    const native = await losses(method, data, parameters);
    for (const count of processes) {
      const seconds = performance.now();
      const found = await losses('trl', data, { method, device: 'cpu', processes: count, ...parameters });
      const worst = Math.max(
        ...native.map((loss, step) => Math.abs((found[step] ?? Number.NaN) - loss) / Math.abs(loss)),
      );
      const agrees = found.length === native.length && worst <= tolerance;
      apart ||= !agrees;
      process.stdout.write(
        `${JSON.stringify({
          work: `${method} ${JSON.stringify(parameters)}`,
          processes: count,
          steps: found.length,
          first: found[0],
          last: found.at(-1),
          nativeLast: native.at(-1),
          relativeDifference: worst,
          agrees,
          seconds: Math.round((performance.now() - seconds) / 100) / 10,
        })}\n`,
      );
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
process.exitCode = apart ? 1 : 0;
