import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import native from '../../engines/native/index.ts';
import type { Learner } from '../../src/contracts/index.ts';
import { readTrainingRows } from '../../src/data/index.ts';
import { trainServices } from '../../src/train/index.ts';
import { sftObjective } from '../../trainers/sft.ts';
import { baseRecipe } from './training-job.ts';

// Trains until its fourth checkpoint is half written, says so, and waits to be killed. Arguments: output, work folder.
const [output, work] = process.argv.slice(2) as [string, string];
const base = { id: 'base', path: join(import.meta.dirname, '../../fixtures/reference/e2e') };
const model = await native.open(base, { threads: 1 });
const rows = (await readTrainingRows(join(base.path, 'sft.jsonl'))).slice(0, 5);
let saves = 0;

async function openLearner(): Promise<Learner> {
  const learner = (await model.learner?.({ threads: 1 })) as Learner;
  const saveState = learner.saveState.bind(learner);
  learner.saveState = async (file) => {
    await saveState(file);
    if (++saves < 4) return;
    truncateSync(file, 1000);
    process.stdout.write('half written\n');
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  };
  return learner;
}

await trainServices.run(
  {
    id: 'native',
    base,
    model,
    openLearner,
    openTeacher: null,
    services: trainServices,
    data: rows,
    replay: { rows: rows.slice(0, 2), perStep: 1 },
    parameters: {},
    seed: 2,
    output,
    work,
    resume: false,
    validation: null,
  },
  sftObjective({ replayWeight: 1 }),
  {
    ...baseRecipe,
    batchSize: 2,
    epochs: 2,
    maxSteps: 5,
    learningRate: 1e-3,
    warmupSteps: 1,
    checkpoints: { everySteps: 1, keep: 2 },
  },
  () => {},
);
