import { jobErrors } from './errors.ts';
import { type PipelineResult, readState, runPipeline } from './pipeline.ts';
import { openProject, type ProjectOptions } from './project.ts';

/**
 * Goes on with the first interrupted pipeline found in these stores, with the config and split it was started with.
 * @throws CUPEL_RESUME_NOTHING
 */
export async function resumePipeline(
  stores: readonly string[],
  options: (config: string, store: string) => ProjectOptions,
): Promise<PipelineResult> {
  for (const store of stores) {
    const state = await readState(store);
    if (state === null || state.complete) continue;
    const given = options(state.config, store);
    return runPipeline(await openProject({ ...given, split: state.split, threads: given.threads ?? state.threads }), {
      fresh: false,
    });
  }
  throw jobErrors.CUPEL_RESUME_NOTHING({ message: `no interrupted pipeline in ${stores.join(', ')}` });
}
