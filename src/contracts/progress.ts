/** Live progress of long work. Goes to stderr, never into evidence. */
export interface Progress {
  /** Starts a line of work of `total` units (null = unknown), of which `done` (default 0) were made before. */
  begin(label: string, total: number | null, unit: string, done?: number): ProgressTask;
  note(text: string): void;
  /** A line of seldom news about work that is under way; shown only where there is no live line. */
  log?(text: string): void;
}

export interface ProgressTask {
  advance(by?: number): void;
  /** Free text beside the bar, e.g. `loss 0.42`. */
  detail(text: string): void;
  end(summary?: string): void;
}
