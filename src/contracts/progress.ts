/** Live progress of long work. Goes to stderr, never into evidence. */
export interface Progress {
  /** Starts a line of work of `total` units (null = unknown). */
  begin(label: string, total: number | null, unit: string): ProgressTask;
  note(text: string): void;
}

export interface ProgressTask {
  advance(by?: number): void;
  /** Free text beside the bar, e.g. `loss 0.42`. */
  detail(text: string): void;
  end(summary?: string): void;
}
