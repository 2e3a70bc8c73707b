enum SluiceLuaPlaceholder {}
