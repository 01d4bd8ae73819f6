import type { Engine, Judge, Report, Trainer, TrainingExporter, Validator } from '../contracts/index.ts';

type Body<T extends { kind: string }> = Omit<T, 'kind'>;

/** Declares an engine: the default export of a file in `engines/`. */
export const defineEngine = (engine: Body<Engine>): Engine => ({ kind: 'engine', ...engine });
/** Declares a judge: the default export of a file in `judges/`. */
export const defineJudge = (judge: Body<Judge>): Judge => ({ kind: 'judge', ...judge });
/** Declares a trainer: the default export of a file in `trainers/`. */
export const defineTrainer = (trainer: Body<Trainer>): Trainer => ({ kind: 'trainer', ...trainer });
/** Declares an exporter of trainings: the default export of a file in `trainers/exports/`. */
export const defineTrainingExporter = (exporter: Body<TrainingExporter>): TrainingExporter => ({
  kind: 'exporter',
  ...exporter,
});
/** Declares a validator: the default export of a file in `suites/validators/`. */
export const defineValidator = (validator: Body<Validator>): Validator => ({ kind: 'validator', ...validator });
/** Declares a report: the default export of a file in `reports/`. */
export const defineReport = (report: Body<Report>): Report => ({ kind: 'report', ...report });
