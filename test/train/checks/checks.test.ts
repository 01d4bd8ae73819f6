import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Learner, Model, Objective, Recipe, TokenBatch, TrainingRow } from '../../../src/contracts/index.ts';
import { readTrainingRows } from '../../../src/data/index.ts';
import { isCupelError, packageRoot } from '../../../src/kit/index.ts';
import { trainingChecks } from '../../../src/train/checks/table.ts';
import {
  type CheckInput,
  checkTraining,
  prepareExamples,
  probeAccumulation,
  probePacking,
  shownExamples,
  templateDigest,
  trainServices,
} from '../../../src/train/index.ts';
import { dpoObjective } from '../../../trainers/dpo.ts';
import { ktoObjective } from '../../../trainers/kto.ts';
import { orpoObjective } from '../../../trainers/orpo.ts';
import { sftObjective } from '../../../trainers/sft.ts';
import { BigramLearner, byteModel } from '../byte-model.ts';
import { baseRecipe, stopAfter, trainingJob } from '../training-job.ts';
import { openVariant, type Variant } from './model-variants.ts';

const fixtures = join(packageRoot(), 'fixtures/training/checks');
let folder: string;
const opened = new Map<string, Promise<Model>>();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cupel-checks-'));
});
afterAll(async () => {
  for (const model of opened.values()) await (await model).close();
  await rm(folder, { recursive: true, force: true });
});

const variants = {
  plain: {},
  // As templates of reasoning models do: what was thought before earlier answers is not written again.
  forgetsThoughts: {
    template: (text) =>
      text.replaceAll("m['content']", "(m['content'] if loop.last else m['content'].split('</think>')[-1])"),
  },
  endless: { template: (text) => text.replaceAll("m['content'] + '<|im_end|>'", "m['content']") },
  padIsEnd: { tokenizerConfig: { pad_token: '<|im_end|>' } },
  begins: {
    specialTokens: ['<s>'],
    tokenizerConfig: { bos_token: '<s>' },
    template: (text) => `{{- bos_token }}${text}`,
  },
  beginsTwice: {
    specialTokens: ['<s>'],
    tokenizerConfig: { bos_token: '<s>' },
    template: (text) => `{{- bos_token }}{{- bos_token }}${text}`,
  },
  // As templates of models that call tools do.
  callsTools: {
    template:
      () => `{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for t in tools %}{{- t | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] }}{%- for c in m.tool_calls %}{{- '<call>' + (c.function | tojson) + '</call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,
  },
  noSystem: {
    template: (text) =>
      `{%- if messages[0]['role'] == 'system' %}{{- raise_exception('no system here') }}{%- endif %}${text}`,
  },
  noTemplate: {
    specialTokens: ['<s>'],
    tokenizerConfig: { bos_token: '<s>' },
    template: () => "{{- raise_exception('no template') }}",
  },
  // As templates of models that may think: an answer without thoughts opens with an empty block of them.
  thinks: {
    template: (text) =>
      text.replaceAll(
        "{{- m['content'] + '<|im_end|>' }}{%- endgeneration",
        "{{- '<think></think>' + m['content'] + '<|im_end|>' }}{%- endgeneration",
      ),
  },
  echoes: {
    template: (text) =>
      text.replaceAll(
        "{{- m['content'] + '<|im_end|>' }}{%- endgeneration",
        "{{- m['content'][:2] + m['content'] + '<|im_end|>' }}{%- endgeneration",
      ),
  },
  otherHeader: {
    template: (text) =>
      text.replaceAll("m['role'] + '\\n'", "m['role'] + ':\\n'").replaceAll('assistant\\n', 'assistant:\\n'),
  },
} as const satisfies Record<string, Variant>;
const modelOf = (name: keyof typeof variants): Promise<Model> => {
  const model = opened.get(name) ?? openVariant(join(folder, name), variants[name]);
  opened.set(name, model);
  return model;
};
const rowsOf = (fixture: string, side: 'trips' | 'clean'): Promise<TrainingRow[]> =>
  readTrainingRows(join(fixtures, fixture, `${side}.jsonl`));

const sft = sftObjective({ replayWeight: 0 });
const dpo = dpoObjective({ beta: 0.1, nllWeight: 0, labelSmoothing: 0, replayWeight: 0 });
const kto = ktoObjective({ beta: 0.1, loss: 'kto', desirableWeight: 1, undesirableWeight: 1, replayWeight: 0 });

interface Setting extends Partial<Omit<CheckInput, 'model' | 'rows' | 'examples' | 'objective' | 'recipe'>> {
  readonly model?: keyof typeof variants;
  readonly objective?: Objective;
  readonly recipe?: Partial<Recipe>;
}

/** Codes of everything that is said of these rows before a learner is opened. */
async function codesOf(rows: readonly TrainingRow[], setting: Setting = {}): Promise<string[]> {
  const { model: name = 'plain', objective = sft, recipe: change, ...rest } = setting;
  const model = await modelOf(name);
  const recipe = { ...baseRecipe, learningRate: 1e-4, ...change };
  try {
    const examples = prepareExamples(model, rows, objective, recipe);
    const input = { model, rows, examples, objective, recipe, replay: true, ...rest };
    return checkTraining(input).map(({ code }) => code);
  } catch (error) {
    if (isCupelError(error)) return [error.code];
    throw error;
  }
}

/** The two sides of a trap that shows in rows, template, tokenizer or recipe. */
const sides: Record<string, { code: string; trips?: Setting; clean?: Setting }[]> = {
  '1-no-labels': [{ code: 'CUPEL_TRAIN_NOTHING_TO_LEARN' }],
  '2-wrong-turns': [{ code: 'CUPEL_TRAIN_TURN_NOT_ASSISTANT' }],
  '3-template-drift': [
    {
      code: 'CUPEL_TRAIN_NOT_A_PREFIX',
      trips: { model: 'forgetsThoughts' },
      clean: { model: 'forgetsThoughts' },
    },
  ],
  '4-end-of-turn': [
    { code: 'CUPEL_TRAIN_NO_END_OF_TURN', trips: { model: 'endless' } },
    { code: 'CUPEL_TRAIN_PAD_IS_END', trips: { model: 'padIsEnd' } },
  ],
  '5-begin-of-sequence': [
    { code: 'CUPEL_TRAIN_BEGIN_OF_SEQUENCE', trips: { model: 'beginsTwice' }, clean: { model: 'begins' } },
  ],
  '6-truncation': [
    { code: 'CUPEL_TRAIN_ROW_TOO_LONG', trips: { recipe: { maxTokens: 200 } }, clean: { recipe: { maxTokens: 200 } } },
    {
      code: 'CUPEL_TRAIN_ROWS_CUT',
      trips: { recipe: { maxTokens: 200, overlong: 'drop' } },
      clean: { recipe: { maxTokens: 200, overlong: 'drop' } },
    },
    {
      code: 'CUPEL_TRAIN_ROWS_CUT',
      trips: { recipe: { maxTokens: 200, overlong: 'left' } },
      clean: { recipe: { maxTokens: 200, overlong: 'left' } },
    },
  ],
  '10-equal-pair': [{ code: 'CUPEL_TRAIN_PAIR_EQUAL', trips: { objective: dpo }, clean: { objective: dpo } }],
  '11-unpaired': [
    { code: 'CUPEL_TRAIN_LABEL_BALANCE', trips: { objective: kto }, clean: { objective: kto } },
    {
      code: 'CUPEL_TRAIN_KTO_BATCH',
      trips: { objective: kto, recipe: { batchSize: 1 }, parameters: { desirableWeight: 7 } },
      clean: { objective: kto, recipe: { batchSize: 2 } },
    },
  ],
  '12-tied-head': [
    {
      code: 'CUPEL_TRAIN_TIED_HEAD',
      trips: { recipe: { tuning: { kind: 'lora', rank: 4, alpha: 8, targets: ['q_proj', 'lm_head'] } } },
      clean: { recipe: { tuning: { kind: 'lora', rank: 4, alpha: 8, targets: ['q_proj'] } } },
    },
  ],
  '13-qlora-merge': [
    {
      code: 'CUPEL_TRAIN_QLORA_MERGE',
      trips: { recipe: { tuning: { kind: 'qlora', rank: 4, alpha: 8, base: 'q4_0' } } },
      clean: { recipe: { tuning: { kind: 'qlora', rank: 4, alpha: 8, base: 'q4_0', save: 'adapter' } } },
    },
  ],
  '14-forgetting': [
    { code: 'CUPEL_TRAIN_NO_REPLAY', trips: { replay: false }, clean: { regressionSuites: 1, replay: false } },
  ],
};

describe('what is caught before the first step', () => {
  it.each(Object.entries(sides).flatMap(([fixture, list]) => list.map((one) => [fixture, one.code, one] as const)))(
    '%s: %s is said of the rows that trip it, and nothing of the clean ones',
    async (fixture, code, { trips, clean }) => {
      expect(await codesOf(await rowsOf(fixture, 'trips'), trips)).toEqual([code]);
      expect(await codesOf(await rowsOf(fixture, 'clean'), clean)).toEqual([]);
    },
  );

  it('7-accumulation: an objective that forgets the other parts of its step is refused, where parts differ', async () => {
    const model = await modelOf('plain');
    /** The mean of each part instead of a share of the step: what trainers had to mend in 2024. */
    const forgetful: Objective = {
      ...sft,
      evaluate: (part) => {
        const weight = part.examples.reduce((sum, { weights }) => sum + (weights[0] as Float64Array).length, 0);
        const share = part.examples.length / part.totals.examples;
        return sft.evaluate({ ...part, totals: { ...part.totals, labelWeights: [weight / share] } });
      },
    };
    const examplesOf = async (side: 'trips' | 'clean') =>
      prepareExamples(model, await rowsOf('7-accumulation', side), sft, baseRecipe);
    const [trips, clean] = [await examplesOf('trips'), await examplesOf('clean')];
    expect(probeAccumulation(forgetful, trips).map(({ code }) => code)).toEqual(['CUPEL_TRAIN_ACCUMULATION']);
    expect(probeAccumulation(forgetful, clean)).toEqual([]);
    expect(probeAccumulation(sft, trips)).toEqual([]);
  });

  it('7-accumulation: every objective of ours adds up', async () => {
    const model = await modelOf('plain');
    const pairs = prepareExamples(
      model,
      await readTrainingRows(join(packageRoot(), 'fixtures/reference/e2e/dpo.jsonl')),
      dpo,
      baseRecipe,
    );
    const judged = prepareExamples(model, await rowsOf('11-unpaired', 'trips'), kto, baseRecipe);
    const orpo = orpoObjective({ beta: 0.1, replayWeight: 0 });
    const odds = prepareExamples(
      model,
      await readTrainingRows(join(packageRoot(), 'fixtures/reference/e2e/dpo.jsonl')),
      orpo,
      baseRecipe,
    );
    expect(probeAccumulation(dpo, pairs)).toEqual([]);
    expect(probeAccumulation(kto, judged)).toEqual([]);
    expect(probeAccumulation(orpo, odds)).toEqual([]);
  });

  it('8-resume: changed rows are refused, the same rows go on', async () => {
    const run = (data: TrainingRow[], resume: boolean, stop: boolean) => {
      const { signal, sink } = stopAfter(stop ? 1 : 1000);
      const job = trainingJob(join(folder, 'resume'), { data, resume });
      return trainServices.run(job, sft, { ...baseRecipe, batchSize: 2 }, sink, signal);
    };
    const [trips, clean] = [await rowsOf('8-resume', 'trips'), await rowsOf('8-resume', 'clean')];
    await expect(run(clean, false, true)).rejects.toThrow('stopped');
    await expect(run(trips, true, false)).rejects.toMatchObject({ code: 'CUPEL_TRAIN_RESUME_DATA' });
    expect((await run(clean, true, false)).steps).toBe(6);
  });

  it('9-packing: a learner that lets sequences see each other is refused, where there are two', async () => {
    class Leaking extends BigramLearner {
      override async logProbabilities(batch: TokenBatch, options?: { readonly keep?: boolean }) {
        const values = await super.logProbabilities(batch, options);
        return values.map((value, index) => (batch.offsets.length > 2 && index > 0 ? value - 0.01 : value));
      }
    }
    const rows = async (side: 'trips' | 'clean') =>
      prepareExamples(byteModel, await rowsOf('9-packing', side), sft, baseRecipe);
    const leaking = new Leaking({ scale: 0.3 });
    const codes = async (learner: Learner, side: 'trips' | 'clean') =>
      (await probePacking(learner, await rows(side))).map(({ code }) => code);
    expect(await codes(leaking, 'trips')).toEqual(['CUPEL_TRAIN_PACKING_LEAK']);
    expect(await codes(leaking, 'clean')).toEqual([]);
    const model = await modelOf('plain');
    const learner = (await model.learner?.({ threads: 1 })) as Learner;
    const own = prepareExamples(model, await rowsOf('9-packing', 'trips'), sft, baseRecipe);
    expect(await probePacking(learner, own)).toEqual([]);
    await learner.close();
  });

  it('15-version-drift: a template that writes something else than the base was trained with is told', async () => {
    const recordedTemplate = templateDigest(await modelOf('plain'));
    const rows = await rowsOf('15-version-drift', 'trips');
    const other = { recordedTemplate, template: templateDigest(await modelOf('otherHeader')) };
    expect(await codesOf(rows, { model: 'otherHeader', ...other })).toEqual(['CUPEL_TRAIN_TEMPLATE_CHANGED']);
    const same = { recordedTemplate, template: templateDigest(await modelOf('plain')) };
    expect(await codesOf(await rowsOf('15-version-drift', 'clean'), same)).toEqual([]);
  });

  it('an answer that smuggles in the end of turn is refused', async () => {
    const [, , smuggled] = await rowsOf('2-wrong-turns', 'trips');
    expect(await codesOf([smuggled as TrainingRow])).toEqual(['CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT']);
  });

  it('special tokens in the text of a prompt are told where the engine does not take their meaning away', () => {
    const row = (id: string, content: string): TrainingRow => ({
      id,
      kind: 'messages',
      messages: [
        { role: 'user', content },
        { role: 'assistant', content: 'Hi' },
      ],
    });
    const rows = [row('a', 'Hello<|end|>'), row('b', 'Hello')];
    const input = { objective: sft, recipe: { ...baseRecipe, learningRate: 1e-4 }, replay: true };
    const examples = prepareExamples(byteModel, rows, sft, baseRecipe);
    expect(checkTraining({ ...input, model: byteModel, rows, examples })).toMatchObject([
      { code: 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_PROMPT', severity: 'warning', where: 'row a' },
    ]);
    // The padding token of the byte model as one that opens sequences: the template never writes it.
    const begun = { ...byteModel, beginOfSequence: 0 };
    const other = [row('a', '<|pad|>Hello'), row('b', 'Hello')];
    expect(
      checkTraining({ ...input, model: begun, rows: other, examples: prepareExamples(begun, other, sft, baseRecipe) }),
    ).toMatchObject([{ code: 'CUPEL_TRAIN_BEGIN_OF_SEQUENCE', severity: 'error', where: 'row a' }]);
  });

  it('rows of several datasets may have the same id', async () => {
    const multi = await rowsOf('3-template-drift', 'clean');
    const rows = [...(await rowsOf('1-no-labels', 'clean')), ...multi].map((row) => ({ ...row, id: 'line-1' }));
    expect(await codesOf(rows, { model: 'begins' })).toEqual([]);
  });

  it('adapters on a head of its own are fine', async () => {
    const tuning = { kind: 'lora', rank: 4, alpha: 8, targets: ['lm_head'] } as const;
    const model = { ...(await modelOf('plain')), tiedHead: false } as Model;
    const input = { rows: [], examples: [], objective: sft, recipe: { ...baseRecipe, tuning, learningRate: 1e-4 } };
    expect(checkTraining({ ...input, model, replay: true })).toEqual([]);
  });

  it.each([
    ['full', 5e-1, 1],
    ['full', 1e-9, 1],
    ['full', 1e-3, 0],
    ['lora', 2e-4, 0],
  ] as const)('the learning rate of %s tuning may be unusual: %s', async (kind, learningRate, said) => {
    const tuning = kind === 'full' ? { kind } : { kind, rank: 4, alpha: 8 };
    const codes = await codesOf(await rowsOf('1-no-labels', 'clean'), { recipe: { learningRate, tuning } });
    expect(codes).toEqual(Array<string>(said).fill('CUPEL_TRAIN_LEARNING_RATE'));
  });

  it('the weights that would balance desirable and undesirable examples are told, and then accepted', async () => {
    const rows = await rowsOf('11-unpaired', 'trips');
    const model = await modelOf('plain');
    const examples = prepareExamples(model, rows, kto, baseRecipe);
    const input = {
      model,
      rows,
      examples,
      objective: kto,
      recipe: { ...baseRecipe, learningRate: 1e-4 },
      replay: true,
    };
    expect(checkTraining(input)[0]?.message).toBe(
      '1 desirable and 7 undesirable examples with weights 1 and 1 stand 0.143 to 1; with undesirableWeight 1 a desirableWeight from 7.00 to 9.33 is usual',
    );
    expect(checkTraining({ ...input, parameters: { desirableWeight: 8 } })).toEqual([]);
  });

  it('rows that are left out where that was asked for are a warning with their number, however many', async () => {
    const model = await modelOf('plain');
    const rows = await rowsOf('6-truncation', 'trips');
    const long = rows.map((row, index) => ({ ...row, id: `r${index}` }));
    const recipe = { ...baseRecipe, maxTokens: 160, overlong: 'drop' as const, learningRate: 1e-4 };
    const examples = prepareExamples(model, long, sft, recipe);
    expect(examples.length).toBeLessThan(rows.length);
    const left = rows.length - examples.length;
    expect(checkTraining({ model, rows: long, examples, objective: sft, recipe, replay: true })).toMatchObject([
      {
        code: 'CUPEL_TRAIN_ROWS_CUT',
        severity: 'warning',
        message: expect.stringMatching(new RegExp(`^${left} of ${rows.length} rows were left out`)) as string,
      },
    ]);
  });

  it('rows that are cut so that they lose an answer of an earlier turn are an error above one in a hundred', async () => {
    const model = await modelOf('plain');
    const turns = (id: string, count: number): TrainingRow => ({
      id,
      kind: 'messages',
      messages: Array.from({ length: count }, () => [
        { role: 'user' as const, content: 'Where is parcel 311?' },
        { role: 'assistant' as const, content: 'On its way.' },
      ]).flat(),
    });
    const recipe = { ...baseRecipe, maxTokens: 100, overlong: 'left' as const, learningRate: 1e-4 };
    const said = (short: number) => {
      const rows = [turns('long', 3), ...Array.from({ length: short }, (_, index) => turns(`s${index}`, 1))];
      const examples = prepareExamples(model, rows, sft, recipe);
      return checkTraining({ model, rows, examples, objective: sft, recipe, replay: true });
    };
    expect(said(9)).toMatchObject(
      [
        { code: 'CUPEL_TRAIN_LABELS_LOST', severity: 'error', where: 'row long', message: /^1 of 10 rows were cut/ },
      ].map((one) => ({ ...one, message: expect.stringMatching(one.message) as string })),
    );
    expect(said(99)).toMatchObject([{ code: 'CUPEL_TRAIN_ROWS_CUT', severity: 'warning' }]);
  });

  it('conversations of thousands of turns are refused before their beginnings are read one by one', async () => {
    const model = await modelOf('plain');
    const messages = Array.from({ length: 2000 }, () => [
      { role: 'user' as const, content: 'Where is parcel 311?' },
      { role: 'assistant' as const, content: 'On its way.' },
    ]).flat();
    const rows: TrainingRow[] = [{ id: 'endless', kind: 'messages', messages }];
    const start = process.cpuUsage();
    expect(() => prepareExamples(model, rows, sft, baseRecipe)).toThrow(
      expect.objectContaining({ code: 'CUPEL_TRAIN_ROW_TOO_LONG', where: 'row endless' }),
    );
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1e6).toBeLessThan(2);
  });

  it('no weights at all for the kinds of examples there are say so, and nothing of ratios', async () => {
    const rows = await rowsOf('11-unpaired', 'trips');
    const model = await modelOf('plain');
    const input = {
      model,
      rows,
      examples: prepareExamples(model, rows, kto, baseRecipe),
      objective: kto,
      recipe: { ...baseRecipe, learningRate: 1e-4 },
      replay: true,
    };
    const said = checkTraining({ ...input, parameters: { undesirableWeight: 0 } })[0]?.message;
    expect(said).toBe('undesirable examples have weight 0: 7 of 8 teach nothing');
  });

  it('lengths are told by the fewest tokens that so many examples stay within', () => {
    const row = (index: number): TrainingRow => ({ id: `r${index}`, kind: 'text', text: 'x'.repeat(index) });
    const rows = Array.from({ length: 100 }, (_, index) => row(index + 1));
    const examples = prepareExamples(byteModel, rows, sft, { ...baseRecipe, maxTokens: 300 });
    const [longest] = rows.slice(-1) as [TrainingRow];
    const more = [...rows, { ...longest, id: 'left', text: 'x'.repeat(500) } as TrainingRow];
    const said = checkTraining({
      model: byteModel,
      rows: more,
      examples,
      objective: sft,
      recipe: { ...baseRecipe, learningRate: 1e-4 },
      replay: true,
    });
    expect(said[0]?.message).toBe(
      '1 of 101 rows were left out; lengths now: half up to 51 tokens, 90 % up to 91, 99 % up to 100, longest 101',
    );
  });

  it('special tokens in the text of a document are told', () => {
    const rows: TrainingRow[] = [
      { id: 'chat', kind: 'text', text: 'Hello<|end|>Hi' },
      { id: 'plain', kind: 'text', text: 'Hello' },
    ];
    const examples = prepareExamples(byteModel, rows, sft, baseRecipe);
    const input = { objective: sft, recipe: { ...baseRecipe, learningRate: 1e-4 }, replay: true };
    expect(checkTraining({ ...input, model: byteModel, rows, examples })).toMatchObject([
      { code: 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_PROMPT', severity: 'warning', where: 'row chat' },
    ]);
  });

  it('4,000 rows, a fifth of a middling dataset, take less than three seconds of a processor', async () => {
    const model = await modelOf('plain');
    const rows = await readTrainingRows(join(packageRoot(), 'fixtures/reference/e2e/sft.jsonl'));
    const many = Array.from({ length: 4000 }, (_, index) => ({
      ...(rows[index % 20] as TrainingRow),
      id: `r${index}`,
    }));
    const start = process.cpuUsage();
    const examples = prepareExamples(model, many, sft, baseRecipe);
    checkTraining({ model, rows: many, examples, objective: sft, recipe: baseRecipe, replay: true });
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1e6).toBeLessThan(3);
  });
});

describe('templates that refuse some conversations', () => {
  it('name the row that they refuse, and how many more', async () => {
    const model = await modelOf('noSystem');
    const row = (id: string, ...roles: readonly ('system' | 'user' | 'assistant')[]): TrainingRow => ({
      id,
      kind: 'messages',
      messages: roles.map((role) => ({ role, content: 'Hello' })),
    });
    const rows = [
      row('a', 'user', 'assistant'),
      row('b', 'system', 'user', 'assistant'),
      row('c', 'system', 'user', 'assistant'),
    ];
    expect(() => prepareExamples(model, rows, sft, baseRecipe)).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(/no system here.*and 1 other rows are refused: c$/s) as string,
        where: expect.stringMatching(/^row b/) as string,
      }),
    );
    const [fine] = rows as [TrainingRow];
    const examples = prepareExamples(model, [fine], sft, baseRecipe);
    const [shown] = shownExamples(model, examples);
    expect(shown?.runs.map(({ text }) => text).join('')).toBe(
      '<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n',
    );
    expect(await codesOf([fine], { model: 'noSystem' })).toEqual([]);
  });
});

describe('what a template writes at the start of every answer', () => {
  const rows: TrainingRow[] = [
    {
      id: 'a',
      kind: 'messages',
      messages: [
        { role: 'user', content: 'Hello' },
        { role: 'assistant', content: 'Hi there' },
      ],
    },
  ];

  it('is trained with it, because the model has to write it', async () => {
    const model = await modelOf('thinks');
    const [shown] = shownExamples(model, prepareExamples(model, rows, sft, baseRecipe));
    expect(shown?.runs.filter(({ trained }) => trained).map(({ text }) => text)).toEqual([
      '<think></think>Hi there<|im_end|>',
    ]);
    expect(await codesOf(rows, { model: 'thinks' })).toEqual([]);
  });

  it('is refused where it depends on the answer', async () => {
    expect(await codesOf(rows, { model: 'echoes' })).toEqual(['CUPEL_TRAIN_SPECIAL_TOKEN_IN_TEXT']);
  });
});

describe('a base without a chat template', () => {
  it('learns documents, which open with the token that its tokenizer has for it', async () => {
    const model = await modelOf('noTemplate');
    const rows: TrainingRow[] = [{ id: 'd', kind: 'text', text: 'Once.' }];
    const examples = prepareExamples(model, rows, sft, baseRecipe);
    expect([...(examples[0]?.sequences[0]?.tokens ?? [])].slice(0, 1)).toEqual([model.beginOfSequence]);
    expect(shownExamples(model, examples)[0]?.runs.at(-1)).toMatchObject({ trained: true });
    expect(await codesOf(rows, { model: 'noTemplate' })).toEqual([]);
  });
});

describe('examples that are shown', () => {
  it('join to the whole text, special tokens written out, and mark what is trained', async () => {
    const model = await modelOf('plain');
    const rows = await rowsOf('1-no-labels', 'clean');
    const shown = shownExamples(model, prepareExamples(model, rows, sft, baseRecipe));
    expect(shown.map(({ id }) => id)).toEqual(['line-1', 'line-3', 'line-4']);
    for (const [index, row] of [rows[0], rows[2], rows[3]].entries()) {
      if (row?.kind !== 'messages') throw new Error('a row of messages');
      const text = model.render(row.messages, { addGenerationPrompt: false });
      expect(shown[index]?.runs.map((run) => run.text).join('')).toBe(text);
      expect(shown[index]?.runs.filter(({ trained }) => trained).map((run) => run.text)).toEqual([
        `${row.messages[2]?.content ?? ''}<|im_end|>`,
      ]);
    }
  });

  it('show both answers of a pair, and characters of several tokens whole', async () => {
    const model = await modelOf('plain');
    const row: TrainingRow = {
      id: 'p',
      kind: 'preference',
      prompt: [{ role: 'user', content: 'Grüße?' }],
      chosen: 'Schöne Grüße ☂',
      rejected: ' nö',
    };
    const shown = shownExamples(model, prepareExamples(model, [row], dpo, baseRecipe));
    expect(shown.map(({ id, runs }) => [id, runs.find(({ trained }) => trained)?.text])).toEqual([
      ['p (chosen)', 'Schöne Grüße ☂<|im_end|>'],
      ['p (rejected)', ' nö<|im_end|>'],
    ]);
  });
});

describe('tools', () => {
  const tool = { name: 'find', description: 'Finds a parcel.', parameters: { type: 'object', properties: {} } };
  const row: TrainingRow = {
    id: 't',
    kind: 'messages',
    messages: [
      { role: 'user', content: 'Where is it?' },
      { role: 'assistant', content: '', toolCalls: [{ id: '', name: 'find', arguments: { parcel: 3 } }] },
      { role: 'tool', content: 'shelf 9', name: 'find' },
      { role: 'assistant', content: 'Here.' },
    ],
    tools: [tool],
  };

  it('are read and called as the template writes them, and the calls are trained', async () => {
    const model = await modelOf('callsTools');
    const [shown] = shownExamples(model, prepareExamples(model, [row], sft, baseRecipe));
    expect(shown?.runs.filter(({ trained }) => trained).map(({ text }) => text.replaceAll(' ', ''))).toEqual([
      '<call>{"name":"find","arguments":{"parcel":3}}</call><|im_end|>',
      'Here.<|im_end|>',
    ]);
    expect(shown?.runs[0]?.text).toContain('Finds a parcel.');
    expect(await codesOf([row], { model: 'callsTools' })).toEqual([]);
  });

  it('are refused where the template does not write them', async () => {
    expect(await codesOf([row])).toEqual(['CUPEL_TRAIN_TEMPLATE_DROPS']);
    expect(await codesOf([{ ...row, tools: [] }])).toEqual(['CUPEL_TRAIN_TEMPLATE_DROPS']);
  });
});

describe('the table of traps', () => {
  it('has all 15, each with a fixture that a test above reads', async () => {
    expect(trainingChecks.map(({ row }) => row)).toEqual(Array.from({ length: 15 }, (_, index) => index + 1));
    const folders = (await readdir(fixtures)).filter((name) => !name.endsWith('.md'));
    expect(trainingChecks.map(({ fixture }) => fixture).sort()).toEqual(folders.sort());
    const source = await readFile(import.meta.filename, 'utf8');
    for (const { fixture } of trainingChecks) expect(source).toContain(fixture);
  });
});
