// Which vector instruction set the CPU kernels run with.
#pragma once

namespace infogan_fast {

enum class Isa : int { portable = 0, avx2 = 1, avx512 = 2 };

// The best of this CPU, or a lower one chosen by set_isa().
Isa active_isa();
Isa best_isa();
void set_isa(Isa isa);

}  // namespace infogan_fast
