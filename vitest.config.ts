import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/bench/**', 'node_modules/**', 'dist/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    coverage: {
      provider: 'v8',
      include: ['src/**', 'engines/**/*.ts', 'judges/**', 'trainers/**', 'suites/validators/**', 'reports/**'],
      reporter: ['text-summary', 'json-summary'],
    },
  },
});
