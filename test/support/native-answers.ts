// Prints what each weight type answers to a small workload; run apart with CUPEL_NATIVE_ISA set.
import native from '../../engines/native/index.ts';
import type { CacheType, WeightType } from '../../src/contracts/index.ts';
import { scoresOf, scoreWorkload, textsOf, workload } from './native-workload.ts';

const [, , threads = '1', ...variants] = process.argv;
const answers = [];
for (const variant of variants) {
  const [path = '', weights, kvCache] = variant.split('|');
  const model = await native.open(
    { id: 'base', path },
    { threads: Number(threads), weights: weights as WeightType, kvCache: kvCache as CacheType },
  );
  answers.push([
    variant,
    [...(await textsOf(model, workload(5, 8, model)))],
    await scoresOf(model, scoreWorkload(5, 4, model)),
  ]);
  await model.close();
}
process.stdout.write(JSON.stringify(answers));
