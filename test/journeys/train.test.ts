import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256 } from '../../src/kit/index.ts';
import { cupel, root } from '../lib/cli.ts';
import { recipeFolder } from '../lib/recipe.ts';

const weights = (folder: string): string =>
  sha256(readFileSync(join(folder, '.cupel/candidates/first/model.safetensors')));

test(
  'a first recipe: plan, examples, seldom lines where there is no terminal, and the result',
  { timeout: 60_000 },
  () => {
    const { folder } = recipeFolder({ seed: 3, tuning: { kind: 'lora', rank: 4 } });
    const plan = cupel(['train', 'recipe.yaml', '--plan'], { cwd: folder });
    expect(plan.status, plan.stderr).toBe(0);
    expect(plan.stdout).toMatch(/learningRate +0\.003 +effort balanced, 0\.1M parameters, llama/);
    expect(plan.stdout).toMatch(/tuning +\{"rank":4,"alpha":8,"kind":"lora"\} +recipe/);
    expect(plan.stdout).toMatch(/steps +10\n/);
    expect(plan.stdout).toMatch(/tokens +4,636, of which 1,732 are learned/);
    expect(plan.stdout).toMatch(/parameters +[\d,]+, of which 8,192 are trained/);
    expect(existsSync(join(folder, '.cupel'))).toBe(false);

    const { status, stdout, stderr } = cupel(['train', 'recipe.yaml'], { cwd: folder });
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^first {2}sha256:[0-9a-f]{64}\n/);
    expect(stderr).toMatch(
      /example line-1 \(trained in brackets\): .*\[\{"category": "bug", "urgency": "high"\}<\|im_end\|>\]/,
    );
    expect(stderr.match(/train first {2}step/g)).toHaveLength(10);
    expect(stderr).not.toContain('\u001b');
  },
);

test('a wrong recipe ends with 2 and names file and line', { timeout: 60_000 }, () => {
  const { folder, write } = recipeFolder();
  write('wrong.yaml', 'base: ./base\nmethod: sft\ndata: rows.jsonl\noutput: first\nbatchsize: 4\n');
  const { status, stderr } = cupel(['train', 'wrong.yaml'], { cwd: folder });
  expect(status).toBe(2);
  expect(stderr).toBe(
    `CUPEL_FIELD_UNKNOWN: unknown field "batchsize"; did you mean "batchSize"?\n  at: ${join(folder, 'wrong.yaml')}:5\n  mend: Rename "batchsize" to "batchSize", or remove it.\n`,
  );
});

test(
  'Ctrl-C ends with 130 and says the command that goes on; it ends with the same bytes',
  { timeout: 120_000 },
  async () => {
    const fields = { epochs: 24 };
    const whole = recipeFolder(fields);
    expect(cupel(['train', 'recipe.yaml', '--quiet'], { cwd: whole.folder }).status).toBe(0);

    const broken = recipeFolder(fields);
    const child = spawn(
      process.execPath,
      [
        '--import',
        join(root, 'node_modules/tsx/dist/esm/index.mjs'),
        join(root, 'src/cli/main.ts'),
        'train',
        'recipe.yaml',
      ],
      { cwd: broken.folder },
    );
    let text = '';
    child.stderr.on('data', (piece: Buffer) => {
      const before = text.includes('step 12/120');
      text += piece.toString();
      if (!before && text.includes('step 12/120')) child.kill('SIGINT');
    });
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect({ code, text: text.slice(text.indexOf('CUPEL_')) }).toMatchObject({ code: 130 });
    expect(text).toContain('mend: Go on with: cupel train recipe.yaml --resume\n');
    const { status, stderr } = cupel(['train', 'recipe.yaml', '--resume'], { cwd: broken.folder });
    expect(status, stderr).toBe(0);
    expect(weights(broken.folder)).toBe(weights(whole.folder));
  },
);

test(
  'a project’s own config is used where it lies, and the flags of a training without a recipe stay',
  { timeout: 60_000 },
  () => {
    const { folder, write } = recipeFolder({ base: 'tiny', data: 'rows', epochs: 1 });
    write(
      'cupel.config.yaml',
      'project: desk\nstore: ./kept\ncheckpoints: { tiny: { path: ./base } }\ndatasets: { rows: ./rows.jsonl }\n',
    );
    // Quiet: nothing beside the result, which is one object.
    const quiet = cupel(['train', 'recipe.yaml', '--quiet', '--json'], { cwd: folder });
    expect({ status: quiet.status, stderr: quiet.stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(quiet.stdout)).toMatchObject({ checkpoint: 'first', steps: 5, plan: { plan: { steps: 5 } } });
    expect(existsSync(join(folder, 'kept/candidates/first/model.safetensors'))).toBe(true);
    const flags = '--checkpoint second --trainer sft --base tiny --data rows --set epochs=1 --set batchSize=4';
    const { status, stdout, stderr } = cupel(['train', ...flags.split(' '), '--json'], { cwd: folder });
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ checkpoint: 'second', steps: 5 });
    const mixed = cupel(['train', 'recipe.yaml', '--base', 'tiny'], { cwd: folder });
    expect(mixed).toMatchObject({ status: 2 });
    expect(mixed.stderr).toContain('--base goes without a recipe');
  },
);
