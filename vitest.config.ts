import { defineConfig } from 'vitest/config';

/** Tests that start real processes from dist/: one at a time, after the others, with time to wait for processes. */
const PROCESS_TESTS = [
  'test/local/**/*.test.ts',
  'test/real/**/*.test.ts',
  'test/crash/**/*.test.ts',
  'test/chaos/**/*.test.ts',
  'test/overload/**/*.test.ts',
];

export default defineConfig({
  test: {
    maxWorkers: 2,
    pool: 'forks',
    passWithNoTests: true,
    projects: [
      {
        extends: true,
        test: {
          name: 'parts',
          include: ['test/**/*.test.ts'],
          exclude: PROCESS_TESTS,
          testTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'processes',
          include: PROCESS_TESTS,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
