import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExportedTraining, Recipe, Trainer } from '../contracts/index.ts';
import { readJson, writeFileAtomic } from '../kit/index.ts';
import type { TrainRecipe } from '../plugins/recipe.ts';
import { runsReader } from '../train/index.ts';
import { baseFacts } from './base-facts.ts';
import { jobErrors } from './errors.ts';
import type { Project } from './project.ts';
import { resolveSettings } from './recipe-settings.ts';
import { openInputs } from './recipe-inputs.ts';
import { withTrainJob } from './train-job.ts';

/** What an export wrote. Nothing of it was run. */
export interface TrainingExport {
  readonly tool: string;
  readonly folder: string;
  readonly files: readonly string[];
  readonly rows: number;
  readonly steps: number;
  readonly readFrom: string;
  readonly status: 'written, not run';
}

/**
 * Writes the training of a recipe as files for another program, after the same checks of rows and settings as before a
 * training here.
 * @throws CUPEL_EXPORT_FOLDER where the folder holds something, CUPEL_EXPORT_CANNOT and CUPEL_EXPORT_ROW of the exporter
 */
export async function exportTraining(
  project: Project,
  recipe: TrainRecipe,
  tool: string,
  folder: string,
): Promise<TrainingExport> {
  const exporter = await project.registry.load('exporter', tool);
  // What trains is the method's own trainer, whoever the recipe names to compute.
  const native = { ...recipe, trainer: 'native' };
  const { trainer, base, teacher, rows, replay, chosen } = await openInputs(project, native);
  if (base === null || !existsSync(join(base.path, 'config.json'))) {
    throw jobErrors.CUPEL_EXPORT_BASE({ message: 'the base is no Hugging Face folder', where: base?.path ?? 'base' });
  }
  if (existsSync(folder) && (await readdir(folder)).length > 0) {
    throw jobErrors.CUPEL_EXPORT_FOLDER({ message: `${folder} is not empty`, where: folder });
  }
  const { parameters } = resolveSettings(native, { trainer, method: trainer }, await baseFacts(base.path));
  const task = {
    id: recipe.output,
    trainer: recipe.method,
    base,
    teacher,
    data: rows,
    replay: null,
    parameters,
    seed: recipe.seed ?? project.config.seed,
    output: folder,
    work: null,
    resume: false,
    validation: null,
  };
  const planner: Trainer = { ...trainer, needs: 'model' };
  const { training, files } = await withTrainJob(project, planner, task, async (job) => {
    const settings = withDefaults(trainer, parameters);
    const services = servicesOf(job);
    const shape = { name: recipe.method, sequences: sequencesOf(recipe.method) };
    const prepared = (await services.prepare(job, shape, settings, () => {})).rows;
    const { model } = job;
    if (model === null) throw jobErrors.CUPEL_EXPORT_BASE({ message: `job ${job.id} has no open base` });
    let reader: ReturnType<typeof runsReader> | null = null;
    const kept = new Set(prepared.map(({ id }) => id));
    const exported: ExportedTraining = {
      id: recipe.output,
      method: recipe.method,
      options: trainer.options,
      parameters,
      base: base.path,
      config: await readJson(join(base.path, 'config.json')),
      rows: rows.filter(({ id }) => kept.has(id)),
      prepared,
      // Few programs want it, and it takes a while to find the texts of special tokens.
      runs: (sequence) => (reader ??= runsReader(model))(sequence),
      tokenize: (text) => model.tokenize(text),
      hasReplay: replay !== null,
      hasValidation: chosen !== null,
      steps: services.steps(settings, prepared.length, task.seed).length,
      contextLength: model.contextLength,
      seed: task.seed,
    };
    // Here, because the base is still open, whose tokenizer an exporter may ask.
    return { training: exported, files: exporter.files(exported) };
  });
  for (const { path, text } of files) await writeFileAtomic(join(folder, path), text);
  return {
    tool,
    folder,
    files: files.map(({ path }) => path),
    rows: training.rows.length,
    steps: training.steps,
    readFrom: exporter.readFrom,
    status: 'written, not run',
  };
}

function servicesOf(job: Parameters<Trainer['plan']>[0]): NonNullable<typeof job.services> {
  if (job.services !== null) return job.services;
  throw jobErrors.CUPEL_EXPORT_BASE({ message: `job ${job.id} has no training services` });
}

/** What an example of a method is made of. */
function sequencesOf(method: string): 'answer' | 'pair' | 'labelled' {
  if (method === 'kto') return 'labelled';
  return ['sft', 'continued-pretraining', 'distillation'].includes(method) ? 'answer' : 'pair';
}

/** The fields that rows and steps are prepared by, with the trainer's defaults. */
function withDefaults(trainer: Trainer, parameters: Readonly<Record<string, unknown>>): Recipe {
  const properties = trainer.options['properties'] as Readonly<Record<string, { readonly default?: unknown }>>;
  const settings: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(properties)) settings[name] = property.default;
  return { ...settings, ...parameters } as unknown as Recipe;
}
