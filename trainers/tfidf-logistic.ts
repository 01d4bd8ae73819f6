import { defineTrainer } from '../src/kit/index.ts';
import { type ClassicalField, writeClassicalModel } from './lib/classical-model.ts';
import { fieldForms } from './lib/field-forms.ts';
import { labelledTexts } from './lib/labelled-texts.ts';
import { fitLogistic } from './lib/logistic-regression.ts';
import { readParameters } from './lib/recipe.ts';
import { fitTfidf, round, tfidfVector } from './lib/tfidf.ts';

const version = '1.0.0';
const options = {
  type: 'object',
  additionalProperties: false,
  properties: {
    minTexts: { type: 'integer', minimum: 1, default: 2 },
    inverseRegularisation: { type: 'number', exclusiveMinimum: 0, maximum: 1e6, default: 10 },
    iterations: { type: 'integer', minimum: 1, maximum: 100000, default: 200 },
  },
} as const;

interface Parameters {
  readonly minTexts: number;
  readonly inverseRegularisation: number;
  readonly iterations: number;
}

export default defineTrainer({
  summary:
    'Baseline: TF-IDF with logistic regression for each label, regular expressions for ids, nearest text for prose',
  version,
  options,
  needs: 'data',
  async plan(job) {
    const { iterations } = readParameters<Parameters>(options, job.parameters, `parameters of job ${job.id}`);
    return {
      steps: iterations,
      tokens: 0,
      labelledTokens: 0,
      memoryBytes: 65536 * job.data.length,
      seconds: null,
      parameters: 0,
      trainableParameters: 0,
    };
  },
  async train(job, sink, signal) {
    const parameters = readParameters<Parameters>(options, job.parameters, `parameters of job ${job.id}`);
    const data = labelledTexts(job);
    const features = fitTfidf(data.texts, parameters.minTexts);
    const index = new Map(features.terms.map((term, at) => [term, at]));
    const rows = data.texts.map((text) => tfidfVector(text, index, features.idf));
    const losses = Array.from({ length: parameters.iterations }, () => 0);
    const fields = fieldForms(data).map((form): ClassicalField => {
      signal?.throwIfAborted();
      const { name } = form;
      if (form.form === 'copy') return { name, form: 'copy', shapes: form.shapes, absent: form.absent };
      if (form.form === 'text') return { name, form: 'nearest', answers: form.answers };
      const classes = form.values.length;
      const model = fitLogistic(rows, form.labels, { features: features.terms.length, classes }, parameters);
      for (const [step, loss] of model.losses.entries()) losses[step] = (losses[step] ?? 0) + loss;
      const weights = features.terms.map((_, at) =>
        Array.from(model.weights.subarray(at * classes, (at + 1) * classes), round),
      );
      return { name, form: 'linear', values: form.values, weights, bias: Array.from(model.bias, round) };
    });
    const metrics = { terms: features.terms.length, loss: losses.at(-1) ?? 0 };
    const steps = parameters.iterations;
    const texts = fields.some(({ form }) => form === 'nearest') ? data.texts : [];
    await writeClassicalModel(
      job,
      { version: 1, trainer: `tfidf-logistic@${version}`, style: data.style, fields, features, texts },
      { steps, metrics },
    );
    sink({ type: 'step', step: steps, steps, loss: metrics.loss, metrics, tokens: 0 });
    return { steps, trainedTokens: 0, metrics, losses };
  },
});
