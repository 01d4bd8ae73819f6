import { canonicalJson, defineTrainer } from '../src/kit/index.ts';
import { type ClassicalField, writeClassicalModel } from './lib/classical-model.ts';
import { learnDecisionList } from './lib/decision-list.ts';
import { type FieldForm, fieldForms } from './lib/field-forms.ts';
import { labelledTexts, type LabelledTexts } from './lib/labelled-texts.ts';
import { readParameters } from './lib/recipe.ts';

const version = '1.0.0';
const options = {
  type: 'object',
  additionalProperties: false,
  properties: {
    maxRules: { type: 'integer', minimum: 1, maximum: 10000, default: 100 },
    minTexts: { type: 'integer', minimum: 1, default: 5 },
  },
} as const;

export default defineTrainer({
  summary: 'Baseline: regular expressions for ids, keyword rules for labels, learnt from the rows alone',
  version,
  options,
  needs: 'data',
  async plan(job) {
    return {
      steps: 1,
      tokens: 0,
      labelledTokens: 0,
      memoryBytes: 4096 * job.data.length,
      seconds: null,
      parameters: 0,
      trainableParameters: 0,
    };
  },
  async train(job, sink) {
    const parameters = readParameters<{ maxRules: number; minTexts: number }>(
      options,
      job.parameters,
      `parameters of job ${job.id}`,
    );
    const data = labelledTexts(job);
    const forms = fieldForms(data);
    const fields = forms.map((form) => fieldOf(form, forms, data, parameters));
    const rules = fields.reduce((sum, field) => sum + (field.form === 'rules' ? field.rules.length : 0), 0);
    const metrics = { rules };
    await writeClassicalModel(
      job,
      { version: 1, trainer: `keyword-rules@${version}`, style: data.style, fields, features: null, texts: [] },
      { steps: 1, metrics },
    );
    sink({ type: 'step', step: 1, steps: 1, loss: 0, metrics, tokens: 0 });
    return { steps: 1, trainedTokens: 0, metrics, losses: [] };
  },
});

function fieldOf(
  form: FieldForm,
  forms: readonly FieldForm[],
  data: LabelledTexts,
  parameters: { maxRules: number; minTexts: number },
): ClassicalField {
  const { name } = form;
  if (form.form === 'copy') return { name, form: 'copy', shapes: form.shapes, absent: form.absent };
  if (form.form === 'choice')
    return { name, form: 'rules', values: form.values, ...learnDecisionList(data.texts, form.labels, parameters) };
  return byField(name, form.answers, forms, data);
}

/** Free text: the most frequent answer for each value of the choice that has the most values. */
function byField(
  name: string,
  answers: readonly unknown[],
  forms: readonly FieldForm[],
  data: LabelledTexts,
): ClassicalField {
  const choices = forms.filter((form) => form.form === 'choice');
  const guide = choices.reduce<(typeof choices)[number] | null>(
    (best, one) => (one.values.length > (best?.values.length ?? 0) ? one : best),
    null,
  );
  const rows = data.texts.map((_, row) => row);
  return {
    name,
    form: 'by-field',
    field: guide?.name ?? '',
    answers: (guide?.values ?? []).map((value, index) => ({
      value,
      answer: mostFrequent(
        rows.filter((row) => guide?.labels[row] === index),
        answers,
      ),
    })),
    otherwise: mostFrequent(rows, answers),
  };
}

function mostFrequent(rows: readonly number[], answers: readonly unknown[]): unknown {
  const counts = new Map<string, { answer: unknown; count: number }>();
  for (const row of rows) {
    const key = canonicalJson(answers[row]);
    counts.set(key, { answer: answers[row], count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.values()].reduce((best, one) => (one.count > best.count ? one : best)).answer;
}
