import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cupel } from '../../lib/cli.ts';
import { recipeFolder } from '../../lib/recipe.ts';

describe('a recipe for other programs', () => {
  it('is written by the command line, which says that nobody ran it, and only into an empty folder', () => {
    const { folder, recipe } = recipeFolder();
    const output = join(folder, 'axolotl');
    const command = ['train', recipe, '--set', 'warmupSteps=0', '--export', 'axolotl', '-o', output];
    const first = cupel(command, { cwd: folder });
    expect(first.stderr).not.toContain('CUPEL_');
    expect(first.stdout).toMatch(/^written, not run: \d+ rows, \d+ steps, for axolotl\n/);
    expect(readFileSync(join(output, 'config.yaml'), 'utf8')).toContain(`base_model: ${join(folder, 'base')}`);
    expect(first.status).toBe(0);
    const again = cupel(command, { cwd: folder });
    expect(again.status).toBe(2);
    expect(again.stderr).toContain('CUPEL_EXPORT_FOLDER');
  }, 60_000);

  it('hands Megatron-LM text that gives the same tokens again, in turns that are read or learned', () => {
    const { folder, configure } = recipeFolder();
    const recipe = configure({ order: 'file', seed: 3 });
    const output = join(folder, 'megatron');
    const { status, stderr } = cupel(['train', recipe, '--export', 'megatron', '-o', output], { cwd: folder });
    expect(stderr).not.toContain('CUPEL_');
    expect(status).toBe(0);
    const [first = ''] = readFileSync(join(output, 'dataset.jsonl'), 'utf8').split('\n');
    const { messages } = JSON.parse(first) as { messages: { role: string; content: string }[] };
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant']);
    expect(messages[0]?.content).toMatch(/<\|im_start\|>assistant\n$/);
    expect(messages[1]?.content).toMatch(/<\|im_end\|>$/);
  }, 60_000);

  it('is not trained by TRL before its environment has passed the self-test', () => {
    const { folder, recipe } = recipeFolder();
    const { status, stderr } = cupel(['train', recipe, '--trainer', 'trl'], { cwd: folder });
    expect(stderr).toContain('CUPEL_TRL_NO_ENVIRONMENT');
    expect(status).toBe(2);
    const doctor = cupel(['doctor'], { cwd: folder });
    expect(doctor.stdout).toContain('trainer trl: not set up; `cupel doctor --setup trl` makes it');
    expect(doctor.status).toBe(0);
  }, 60_000);
});
