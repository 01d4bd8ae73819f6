import { type PipelineResult, runPipeline } from './pipeline.ts';
import { openProject, type ProjectOptions } from './project.ts';

/** The pipeline of a config, from the start: what an earlier one left in the store is removed. */
export async function runDemo(options: ProjectOptions): Promise<PipelineResult> {
  return runPipeline(await openProject(options), { fresh: true });
}
