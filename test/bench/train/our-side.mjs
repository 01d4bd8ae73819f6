// Cupel's learner at one job, in a process of its own: `node our-side.mjs <job as JSON>`. Prints one object a step.
// The build that is shipped, so that no compiler of TypeScript stands in the first step.
import { readFileSync } from 'node:fs';
import { learnerInput, openLearner } from '../../../dist/engines/native/learner.js';

const { folder, threads, steps, job, adapter, optimiser, tokens: ids } = JSON.parse(process.argv[2]);
const tuning = job.tuning === 'lora' ? { adapter, base: job.compute } : {};
const options = { compute: job.compute, recompute: job.recompute === true, ...tuning };
const learner = await openLearner(folder, learnerInput(options, threads));
const tokens = Int32Array.from(ids);
const offsets = Int32Array.from({ length: job.sequences + 1 }, (_, index) => index * job.length);
const labelled = Uint8Array.from(tokens, (_, index) => (index % job.length === 0 ? 0 : 1));
for (let step = 0; step < steps; step++) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const scores = await learner.logProbabilities({ tokens, offsets, labelled });
  const loss = -scores.reduce((sum, value) => sum + value, 0) / scores.length;
  await learner.backward(new Float32Array(scores.length).fill(-1 / scores.length));
  await learner.step(optimiser);
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? NaN) * 1024;
  process.stdout.write(`${JSON.stringify({ step, loss, seconds, cpuSeconds: (user + system) / 1e6, peak })}\n`);
}
await learner.close();
