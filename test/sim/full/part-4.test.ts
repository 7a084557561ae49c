/** A quarter of the 2,000 seeds of 30 simulated minutes; `SIM_SEEDS` says how many in all. Every fiftieth runs on noble alone. */

import { test } from 'vitest';
import { quarter } from './quarter.ts';

test('quarter 4 of the seeds', () => quarter(4));
