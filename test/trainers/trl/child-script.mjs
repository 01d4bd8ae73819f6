// A child process for the tests of the host: it speaks the protocol of run_trl.py and trains nothing.
// `node child-script.mjs <scenario> <events file> <stop file>`
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const [scenario, events, stop] = process.argv.slice(2);

const append = (text) => appendFileSync(events, text);
const write = (event, fields = {}) => append(`${JSON.stringify({ v: 1, event, ...fields })}\n`);
const hello = () =>
  write('hello', { worldSize: 1, versions: { torch: '2.15.0+cpu' }, python: '3.11.7', device: 'cpu' });
const step = (number) => write('step', { step: number, steps: 3, loss: 1 / number, metrics: { grad_norm: 0.5 } });
const existence = async (file) => {
  while (!existsSync(file)) await sleep(20);
};

// A grandchild, as torchrun's workers are; its heart beats into a file.
const startBeat = () => {
  const beat =
    "process.on('SIGTERM', () => {}); setInterval(() => require('node:fs').appendFileSync(process.argv[1], '.'), 20)";
  spawn(process.execPath, ['-e', beat, `${events}.beat`], { stdio: 'ignore' });
};

const scenarios = {
  finishes: async () => {
    hello();
    for (const number of [1, 2, 3]) step(number);
    // A line that arrives in two pieces.
    append('{"v": 1, "event": "checkpoint", "step": 3, ');
    await sleep(300);
    append('"folder": "x"}\n');
    write('done', { steps: 3, probe: [{ row: 0, logProbability: -1.5, tokens: 2 }] });
  },
  'no-done': () => hello(),
  'done-but-fails': () => {
    hello();
    write('done', { steps: 3, probe: [] });
    return 9;
  },
  reports: () => {
    hello();
    write('error', { code: 'CUPEL_TRL_FAILED', message: 'RuntimeError: connection closed by peer' });
    write('error', { code: 'CUPEL_TRL_NOT_FINITE', message: 'the loss of step 2 is nan' });
    return 3;
  },
  'unknown-code': () => {
    write('error', { code: 'SOMETHING_ELSE', message: 'odd' });
    return 1;
  },
  crashes: async () => {
    process.stdout.write('Traceback: the last line of the log\n');
    process.kill(process.pid, 'SIGKILL');
    await sleep(60_000);
  },
  garbage: () => {
    append('not json\n');
    return existence(stop);
  },
  'wrong-world': () => {
    hello();
    return existence(stop);
  },
  'stops-by-file': async () => {
    hello();
    step(1);
    await existence(stop);
    write('error', { code: 'CUPEL_TRL_STOPPED', message: 'stopped after step 1' });
    return 3;
  },
  'leaves-behind': async () => {
    hello();
    startBeat();
    await existence(`${events}.beat`);
    return 7;
  },
  'no-hello': () => {
    step(1);
    write('done', { steps: 1, probe: [] });
  },
  'long-line': () => {
    append('x'.repeat(3_000_000));
    return existence(stop);
  },
  floods: async () => {
    hello();
    for (let count = 0; count < 20; count += 1) {
      process.stdout.write(`${'='.repeat(10_000)}\n`);
      await sleep(20);
    }
    process.stdout.write('the end\n');
    return 5;
  },
  'many-events': () => {
    hello();
    append(`${JSON.stringify({ v: 1, event: 'step', step: 1, steps: 1, loss: 1, metrics: {} })}\n`.repeat(50_000));
    write('done', { steps: 1, probe: [] });
  },
  'ignores-everything': async () => {
    process.on('SIGTERM', () => {});
    startBeat();
    await existence(`${events}.beat`);
    hello();
    await sleep(60_000);
  },
};

process.stdout.write('progress bars and other noise\n');
const code = await scenarios[scenario]();
process.exit(typeof code === 'number' ? code : 0);
