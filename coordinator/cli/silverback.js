#!/usr/bin/env node
/** `npx silverback`, from a bare clone on: coordinator/cli/main.ts as compiled. Only answers go to standard output. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from '../local/build.js';
import { makeReady } from '../local/ready.js';

makeReady((line) => console.error(line));
await import(pathToFileURL(join(ROOT, 'dist/coordinator/cli/main.js')).href);
