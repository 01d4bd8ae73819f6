// Evaluates the sample suite slowly; the test kills it in the middle. Arguments: store folder, wait in ms a case.
import { setTimeout } from 'node:timers/promises';
import { evaluate } from '../../src/run/index.ts';
import { openRunStore, runText } from '../../src/store/index.ts';
import { canEverything, echoModel } from './echo-model.ts';
import { lookup, sampleCase, sampleSuite } from './sample-suite.ts';

const [folder = '', wait = '0'] = process.argv.slice(2);
const cases = Array.from({ length: 200 }, (_, index) => sampleCase(`c${index}`, { word: `word ${index}` }));
const model = echoModel({
  order: Number(wait),
  before: async () => {
    process.stderr.write('.');
    if (Number(wait) > 0) await setTimeout(Number(wait));
  },
});
const run = await evaluate({
  model,
  checkpointId: 'echo',
  capabilities: canEverything,
  suite: sampleSuite({ splits: { test: cases } }),
  split: 'test',
  validators: lookup,
  store: openRunStore(folder),
  seed: 1,
});
process.stdout.write(runText(run));
